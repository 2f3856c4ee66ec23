"""plinth eval: how good the answers are, with intervals; and how good the parts of the data plane are."""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster.cli.evaluation.suites import Run, described, suite_of
from cluster.cli.output import Stages, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode
from cluster.core.home import Home

DETAILS = """\
Suites (those of questions ask the running service; the others need --data and no service):
{suites}

Of shipped questions, `tune` ones were used to choose settings: trust `report`.

  plinth eval run --suite my_questions.jsonl --model small --misses
  plinth eval run --suite pii --data my_labelled_texts.jsonl"""


def register(commands: Commands) -> None:
    """Declare ``plinth eval run``: which suite, on which data and model."""
    group = add_group(commands, "eval", VERBS["eval"].summary)
    parser = add_verb(
        group, "run", run, "Score a suite: what is right, cited, refused (95 % intervals), or found by a part.",
        DETAILS.format(suites=described()),
    )  # fmt: skip
    parser.add_argument("--suite", default="stdlib", help="a name, or the path of a .jsonl file (default stdlib)")
    parser.add_argument("--data", metavar="PATH", help="labelled data of a suite that needs some")
    parser.add_argument("--model", default="quote", help="tier to ask (default quote)")
    parser.add_argument("--misses", action="store_true", help="list the questions that went wrong")


def run(args: argparse.Namespace) -> int:
    """Print the tables of a suite, or with ``--json`` its result; exit code 0, however low the scores are.

    Raises:
        UsageError: there is no such suite, or it needs ``--data``.
    """
    suite, home, stages = suite_of(args.suite), Home.from_env(), Stages(show=not args.json)
    data = Path(args.data).expanduser() if args.data else None
    asked = Run(args.suite, data, args.model, args.misses, config_from(args, home), home, stages)
    with stages.run(f"suite {args.suite}"):
        result, tables = suite.run(asked)
    if args.json:
        print_json(result)
    else:
        for table in tables:
            print_table(table.title, table.columns, table.rows, table.numeric)
    return ExitCode.DONE
