"""plinth keys store: encrypt what is in the store, and give it a new key."""

from __future__ import annotations

import argparse

from cluster.cli.output import Stages, console, print_json
from cluster.cli.verbs import Commands, add_verb
from cluster.cli.written import write_down
from cluster.core.errors import EnvironmentFaultError, ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store

DETAILS = """\
The first time this makes keys/store.json below PLINTH_HOME: from then on everything written to the store is encrypted.
Then it writes what is plain, or under an older key, anew; interrupted, the same command goes on. Without the file what
is encrypted is lost: keep a copy elsewhere. Other machines that use the store need it below their PLINTH_HOME.

  plinth keys store               encrypt the store
  plinth keys store --rotate      a new key; older ones stay in the file, for copies and other stores"""


def register(group: Commands) -> None:
    """Declare ``plinth keys store``."""
    parser = add_verb(group, "store", encrypt, "Encrypt the store, or give it a new key.", DETAILS)
    parser.add_argument("--rotate", action="store_true", help="make a new key first")


def encrypt(args: argparse.Namespace) -> int:
    """Print how many files were written anew, and under which key; exit code 0.

    Raises:
        EnvironmentFaultError: the service is up, or a job runs: they have the store open without the new key; or the
            store or the file of keys cannot be used.
        IntegrityError: a file was changed; those before it are done.
    """
    from cluster.core.storage.store_keys import StoreKeys
    from cluster.local_head import running

    home, stages = Home.from_env(), Stages(show=not args.json)
    if running(home) is not None:
        raise EnvironmentFaultError("the service is up and reads the store: `plinth down` first, then this again")
    path = home.store_keys_path
    with Store(home.store_uri).collecting():
        made = not path.exists()
        if made:
            home.folder(path.parent.name)
            keys = StoreKeys.make(path)
        else:
            keys = StoreKeys.read(path)
            keys = keys.renewed() if args.rotate else keys
        if made or args.rotate:
            write_down(args, "store_key_made", key=keys.current)
        with stages.run("store"):
            stages.stage("encrypt")
            files = Store(home.store_uri).fs.reseal(stages.advance)
    if args.json:
        print_json({"key": keys.current, "keys": str(path), "files": files})
        return ExitCode.DONE
    console.print(f"{files} files written anew; the store is encrypted under the key {keys.current}.")
    if made:
        console.print(f"The key is in {path}: keep a copy elsewhere, without it the store is lost.", soft_wrap=True)
    return ExitCode.DONE
