"""What the jobs of this folder make of their arguments: a configuration, a budget, and the artefacts that are named."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from cluster.core.config import PlinthConfig, configured
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, UsageError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from train_jobs.data.corpora import Ingredient


def configure(args: argparse.Namespace, home: Home) -> PlinthConfig:
    """The configuration with this job's own arguments applied."""
    return configured(config_from(args, home), [f"train.name={args.name}"] if args.name else [])


def seconds_of(args: argparse.Namespace) -> float | None:
    """``--minutes`` in seconds; None where it was not given.

    Raises:
        UsageError: it is not a number of minutes.
    """
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise UsageError(f"--minutes {args.minutes}: give more than 0 minutes")
    return None if args.minutes is None else args.minutes * 60


def add_code_change(parser: argparse.ArgumentParser) -> None:
    """``--allow-code-change`` and ``--fresh``, as ``code_change_of`` reads them."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--allow-code-change", action="store_true", help="go on from a checkpoint that earlier code wrote"
    )
    either.add_argument("--fresh", action="store_true", help="remove what an unfinished run left and start over")


def code_change_of(args: argparse.Namespace) -> CodeChange:
    """What ``--allow-code-change`` and ``--fresh`` say; without them the user is asked."""
    if args.fresh:
        return "fresh"
    return "resume" if args.allow_code_change else "ask"


def find(store: Store, kind: str, reference: str, made_by: str) -> Manifest:
    """``NAME@VERSION``, or the newest version of ``NAME``.

    Raises:
        BadInputError: there is none; the message says which command makes one.
    """
    name, _, version = reference.partition("@")
    if version:
        return store.manifest(kind, name, version)
    found = [store.manifest(kind, name, "latest")] if store.alias(kind, name, "latest") else store.versions(kind, name)
    if not found:
        raise BadInputError(f"there is nothing under {kind}/{name} yet: `{made_by}` makes it")
    return found[-1]


def mixture_of(store: Store, args: argparse.Namespace) -> list[Ingredient]:
    """What ``--dataset`` and ``--max-epochs`` of pretraining name.

    Raises:
        UsageError: a weight or a limit is none, or is of a dataset that was not named.
        BadInputError: there is no such dataset.
    """
    from data_jobs.commands import find_dataset
    from train_jobs.data.corpora import Ingredient, parse_epochs, parse_weights

    weights = parse_weights(",".join(args.dataset or [""]))
    epochs = parse_epochs(args.max_epochs, [name for name, _ in weights])
    return [Ingredient(find_dataset(store, name), weight, epochs.get(name, 0)) for name, weight in weights]
