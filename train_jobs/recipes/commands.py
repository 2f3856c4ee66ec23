"""The verbs of the recipes: ``plinth train embedder --data FILE`` and so on, joined to the table of training jobs."""

from __future__ import annotations

import argparse
import math
from typing import Any

from cluster.connect import connected
from cluster.core.config import PlinthConfig
from cluster.core.entry import config_from
from cluster.core.errors import UsageError
from cluster.core.home import Home
from cluster.core.job_verbs import JobVerb
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.storage import Store

ROWS = "Bad rows are counted and named; a file with too few good ones is refused. A row's `split` (train, test) decides\n"\
       "its side, else its content does."  # fmt: skip


def add_data(parser: argparse.ArgumentParser, what: str) -> None:
    """``--data``, ``--name``, ``--epochs`` and ``--rate``, which most recipes take."""
    parser.add_argument("--data", default="", metavar="FILE", help=what)
    parser.add_argument("--name", default="", help="name of what is published (default: that of the recipe)")
    parser.add_argument("--epochs", type=float, help="passes over the rows (train.steps, where set, counts instead)")
    parser.add_argument("--rate", type=float, help="peak of the learning rate")


def add_embedder_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_embedder`` reads them."""
    add_data(parser, "JSONL of {query, positive, negatives?}")
    parser.add_argument("--base", default="minilm", help="minilm, a published embedder, a folder or a hub's id")
    parser.add_argument("--pairs", type=int, help="pairs of a step, each other's wrong answers")


def run_embedder(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Fine-tune the embedder on the running cluster."""
    from train_jobs.recipes.embedder import train_embedder

    config, store, chosen = ready(args, "epochs", "rate", "pairs")
    with connected(Home.from_env()):
        return train_embedder(config, store, args.data, args.base, args.name or "embedder", progress, **chosen)


def ready(args: argparse.Namespace, *numbers: str) -> tuple[PlinthConfig, Store, dict[str, Any]]:
    """The configuration, the store, and those of the arguments that were given as ``numbers``.

    Raises:
        UsageError: there is no ``--data``, or a number that is not above 0.
    """
    if not args.data:
        raise UsageError("--data is missing: name a JSONL file")
    home = Home.from_env()
    chosen = {name: getattr(args, name) for name in numbers if getattr(args, name) is not None}
    for name, value in chosen.items():
        if not 0 < value < math.inf:
            raise UsageError(f"--{name} {value}: give a number above 0")
    return config_from(args, home), Store(home.store_uri), chosen


RECIPES = (
    JobVerb("embedder", "Fine-tune the embedder on pairs of queries and the texts that answer them.",
            add_embedder_arguments, run_embedder,
            f"{ROWS}\nTo search with it, set index.embedder to its folder in the store and build an index."),
)  # fmt: skip
