"""plinth completion: verbs and options completed by the shell."""

from __future__ import annotations

import argparse

from cluster.cli.verbs import VERBS, Commands, add_verb
from cluster.core.entry import print_json
from cluster.core.errors import ExitCode

DETAILS = """\
bash:  plinth completion bash > ~/.local/share/bash-completion/completions/plinth
zsh:   plinth completion zsh > a folder of $fpath, as _plinth
or for this shell only:  eval "$(plinth completion bash)\""""


def register(commands: Commands) -> None:
    """Declare ``plinth completion``: for which shell."""
    parser = add_verb(commands, "completion", completion, VERBS["completion"].summary, DETAILS)
    parser.add_argument("shell", choices=("bash", "zsh"), metavar="SHELL", help="bash or zsh")


def completion(args: argparse.Namespace) -> int:
    """Print the completion script of a shell, made from the whole command line; exit code 0."""
    import shtab

    script = shtab.complete(args.whole(), args.shell)
    print_json({"shell": args.shell, "script": script}) if args.json else print(script)
    return ExitCode.DONE
