"""The ``plinth`` command: parse and dispatch. Only the module of the verb that was typed is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from cluster.cli.verbs import VERBS, Help, Parser, register_verbs
from cluster.core.entry import answers, interrupt_as_exception, leave, run_main
from cluster.core.errors import UsageError

DESCRIPTION = """\
Plinth: from a folder of documents to cited answers, on your own machine or cluster.

  plinth quickstart                        do everything once, show an answer, leave the service running
  plinth quickstart --source ~/notes       the same over your own files
  plinth ask "How do I copy a folder?"     ask the running service
  plinth status | doctor | logs | down     look at it, check the machine, read logs, stop it
  plinth help VERB                         what a verb does, its options, examples
"""

EPILOG = (
    "exit codes: 0 done, 1 internal error, 2 usage, 3 bad input, 4 refused by policy, 5 environment, 130 interrupted"
)


COMMON = ("--json", "--preset", "--set")  # options of every verb


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        import importlib.metadata

        print(f"plinth {importlib.metadata.version('plinth')}", file=answers())
        parser.exit()


def build_parser(wanted: Iterable[str] = VERBS) -> Parser:
    """The command line with the verbs of ``wanted`` whole; by default all of it, which imports every verb's module."""
    parser = Parser(prog="plinth", description=DESCRIPTION, epilog=EPILOG, formatter_class=Help)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and leave")
    commands = parser.add_subparsers(dest="verb", title="verbs", metavar="VERB", required=True)
    register_verbs(commands, wanted)
    commands.add_parser("help", help="What a verb does: plinth help VERB", add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The ``plinth`` command: do what its words say and return the exit code, that of an error included.

    Args:
        argv: the words after ``plinth``; None takes those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    verb = next((word for word in words if not word.startswith("-")), "")

    def work() -> int:
        if words and (option := words[0].partition("=")[0]) in COMMON:
            raise UsageError(f"{option} stands after the verb: `plinth VERB {option}`")
        args = build_parser([verb]).parse_args(words, argparse.Namespace(whole=build_parser))
        code: int = args.work(args)
        return code

    interrupt_as_exception()
    return run_main(work, as_json="--json" in words)


def run() -> NoReturn:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    run()
