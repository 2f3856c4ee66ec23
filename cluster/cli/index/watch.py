"""plinth index watch: a folder whose changes are in the answers seconds later."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.cli.output import console, print_json
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import check_interrupted, config_from
from cluster.core.errors import EnvironmentFaultError, ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

if TYPE_CHECKING:
    from data_jobs.indexing.watch import Change

RETRY_S = 5.0
STYLE = {"added": "green", "changed": "yellow", "deleted": "red", "refused": "magenta"}


def register(group: Commands) -> None:
    """Declare ``plinth index watch``: which folder, how often, into which index."""
    from data_jobs.commands import add_collection_argument

    parser = add_verb(
        group, "watch", watch, "Keep an index fresh from a folder: what changes there is live in seconds.",
        "Prepares and embeds what changed only, replaces and deletes just the documents concerned; documents that\n"
        "came into the index otherwise stay. It may be killed at any time: the next start goes on from there.\n"
        "Needs no running cluster; a running service follows by itself. --json prints one line per change.\n\n"
        "Example: plinth index watch ~/notes --once",
    )  # fmt: skip
    parser.add_argument("path", help="the folder to watch")
    add_collection_argument(
        parser,
        "which collection (default: the one that answers from this folder, else the default one); a new name begins "
        "one",
    )
    parser.add_argument("--once", action="store_true", help="bring the index up to date and leave")
    parser.add_argument("--every", type=float, default=0.5, metavar="SECONDS", help="between two looks (default 0.5)")


def watch(args: argparse.Namespace) -> int:
    """Print a line for every change that went live, until interrupted; with ``--once`` look once, exit code 0.

    Without ``--once`` a fault of the environment is said and tried again.

    Raises:
        UsageError: ``--every`` is not above 0.
        EnvironmentFaultError: only with ``--once``: the look met a fault.
        KeyboardInterrupt: it was interrupted (exit code 130).
    """
    from data_jobs.indexing.collection import collection_of_folder
    from data_jobs.indexing.watch import FolderWatch
    from data_jobs.retrieval.embedder import load_embedder

    if args.every <= 0:
        raise UsageError("--every must be above 0")
    home = Home.from_env()
    config, store = config_from(args, home), Store(home.store_uri)
    root = Path(args.path).expanduser()
    name = args.collection or collection_of_folder(store, config.index.name, root)
    if not args.json:
        console.print(f"{root} is kept fresh in the collection {name}", style="dim", markup=False)
    watcher = FolderWatch(config, store, root, name, load_embedder(config.index, threads=2))
    while True:
        check_interrupted()
        began = time.monotonic()
        try:
            for change in watcher.poll():
                show(change, time.monotonic() - began, args.json)
        except EnvironmentFaultError as error:
            if args.once:
                raise
            console.print(f"[red]{error.message}[/red] (trying again in {RETRY_S:.0f} s)")
            time.sleep(RETRY_S)
        if args.once:
            return ExitCode.DONE
        time.sleep(args.every)


def show(change: Change, seconds: float, as_json: bool) -> None:
    """One line: what changed, and how long after it was noticed it was live."""
    if as_json:
        print_json({**vars(change), "seconds": round(seconds, 3)}, indent=None)
        return
    from rich.markup import escape

    reason = f" ({escape(change.reason)})" if change.reason else ""
    documents = f"{change.documents} document{'' if change.documents == 1 else 's'}"
    console.print(
        f"[{STYLE[change.action]}]{change.action:8}[/] {escape(change.path)}  "
        f"[dim]{documents}{reason} · {change.index_version} · {seconds:.1f} s[/dim]"
    )
