"""The arguments and the work of ``plinth adapt``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from cluster.connect import connected
from cluster.core.entry import config_from
from cluster.core.errors import UsageError
from cluster.core.home import Home
from cluster.core.job_verbs import JobVerb, refused_if_not_passed
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.storage import Store
from train_jobs.arguments import add_code_change, code_change_of

DETAILS = (
    "Rules make questions of every passage; those that search does not find again are dropped. A small change of\n"
    "question vectors is learnt from them on two thirds of the documents. The others judge: where the change surely\n"
    "finds passages earlier there (an interval above 0, over whole documents), and forgets nothing of the questions\n"
    "that ship with the product, a new index version answers with it. Else nothing changes, and the exit code is 4.\n\n"
    "Documents keep their vectors, so nothing is embedded anew. `plinth index rollback` takes it back.\n"
    "Each further try on the same documents must be surer of its gain. Documents with access labels are refused.\n"
    "Ctrl-C or a kill -9 loses little: the same command goes on. What is finished is reused.\n\n"
    "Examples:\n"
    "  plinth adapt --dry-run                  what it would take\n"
    "  plinth adapt --collection handbook      adapt one collection\n"
    "  plinth adapt --questions asked.jsonl    questions that people asked judge too\n"
    "  plinth index show                       whether the live index is adapted"
)


def add_adapt_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_adapt`` reads them."""
    from data_jobs.commands import add_collection_argument

    add_collection_argument(parser, "which collection (default: the default one, see `plinth index list`)")
    parser.add_argument(
        "--minutes", type=float, help="make fewer questions where they would take longer (default: all of them)"
    )
    parser.add_argument(
        "--questions", metavar="FILE",
        help="JSONL of {question, document, answers?} that people asked: they judge too, nothing is learnt of them",
    )  # fmt: skip
    add_code_change(parser)


def run_adapt(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Adapt a collection on the running cluster; returns the verdict. What a policy refuses needs no cluster for it."""
    from train_jobs.recipes.adapt import adapt, find_subject

    home = Home.from_env()
    subject = find_subject(config_from(args, home), Store(home.store_uri), args.collection)
    minutes, people = minutes_of(args), Path(args.questions).expanduser() if args.questions else None
    with connected(home):
        return adapt(subject, progress, minutes, people, code_change=code_change_of(args))


def look_ahead(args: argparse.Namespace) -> dict[str, Any]:
    """What a run would take; starts nothing."""
    from train_jobs.recipes import adapt

    home = Home.from_env()
    subject = adapt.find_subject(config_from(args, home), Store(home.store_uri), args.collection)
    return adapt.look_ahead(subject, minutes_of(args))


def minutes_of(args: argparse.Namespace) -> float | None:
    """The minutes that were given.

    Raises:
        UsageError: they are not above 0.
    """
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise UsageError(f"--minutes {args.minutes}: give a number above 0")
    minutes: float | None = args.minutes
    return minutes


ADAPT = JobVerb(
    "adapt", "Let search learn your documents, offline, and keep it only where it surely gains.", add_adapt_arguments,
    run_adapt, DETAILS, refused_if_not_passed, look_ahead,
)  # fmt: skip
