"""The ``plinth`` command: parse and dispatch. Each verb group is a file of its own and imports what it needs lazily."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from cluster.cli import ask, gc, lifecycle, lineage, models, quickstart, runs, train
from cluster.cli.bench import group as bench
from cluster.cli.data import group as data
from cluster.cli.evaluation import group as evaluation
from cluster.cli.index import group as index
from cluster.core.entry import interrupt_as_exception, leave, run_main

DESCRIPTION = """\
Plinth: from a folder of documents to cited answers, on your own machine or cluster.

  plinth quickstart                        do everything once, show an answer, leave the service running
  plinth quickstart --source ~/notes       the same over your own files
  plinth ask "How do I copy a folder?"     ask the running service
  plinth status | doctor | logs | down     look at it, check the machine, read logs, stop it
"""

EPILOG = (
    "exit codes: 0 done, 1 internal error, 2 usage, 3 bad input, 4 refused by policy, 5 environment, 130 interrupted"
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plinth", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for group in (quickstart, lifecycle, ask, data, lineage, index, train, models, runs, evaluation, bench, gc):
        group.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    interrupt_as_exception()
    return run_main(lambda: args.work(args), as_json=args.json)


def run() -> NoReturn:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    run()
