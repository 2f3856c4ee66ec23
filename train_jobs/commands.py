"""The arguments and the work of this folder's jobs: the same from ``plinth``, --submit, ``python -m train_jobs``."""

from __future__ import annotations

import argparse

from cluster.connect import connected
from cluster.core.config import PlinthConfig, configured
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.storage import Store


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    _add_name(parser)


def add_pretrain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    parser.add_argument("--tokenizer", default="", help="NAME or NAME@VERSION (default: the latest of this model name)")
    _add_name(parser)
    _add_budget(parser)


def add_finetune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default="", help="checkpoint, NAME or NAME@VERSION (default: the latest pretrained)")
    parser.add_argument("--examples", default="", help="NAME or NAME@VERSION (default: the latest of this model name)")
    _add_name(parser)
    _add_budget(parser)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="name of the model (default: train.name)")


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=float, help="wall-clock budget of this stage (default: its share of train.minutes)"
    )


def configure(args: argparse.Namespace, home: Home) -> PlinthConfig:
    """The configuration with this job's own arguments applied."""
    return configured(config_from(args, home), [f"train.name={args.name}"] if args.name else [])


def run_tokenizer(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train a tokenizer; needs no cluster."""
    from data_jobs.commands import find_dataset
    from train_jobs.data.tokenizer import train_tokenizer

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    return train_tokenizer(config, store, find_dataset(store, args.dataset), progress)


def run_pretrain(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Pretrain on the running cluster."""
    from data_jobs.commands import find_dataset
    from train_jobs.launch import pretrain

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    dataset = find_dataset(store, args.dataset)
    tokenizer = find(store, "tokenizers", args.tokenizer or config.train.name, "plinth train tokenizer")
    with connected(home):
        return pretrain(config, store, dataset, tokenizer, progress, seconds_of(args))


def run_finetune(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Fine-tune on the running cluster."""
    from train_jobs.launch import finetune

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    base = find(store, "checkpoints", args.base or f"{config.train.name}-base", "plinth train pretrain")
    examples = find(store, "examples", args.examples or config.train.name, "plinth quickstart")
    with connected(home):
        return finetune(config, store, base, examples, progress, seconds_of(args))


def seconds_of(args: argparse.Namespace) -> float | None:
    return None if args.minutes is None else args.minutes * 60


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
        raise BadInputError(f"there is no {kind} {name} yet: `{made_by}` makes it")
    return found[-1]
