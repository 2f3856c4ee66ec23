"""The arguments and the work of this folder's jobs: the same from ``plinth``, ``--submit``, ``python -m data_jobs``."""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster.connect import connected
from cluster.core.config import PlinthConfig, configured
from cluster.core.entry import config_from
from cluster.core.home import Home
from cluster.core.job_verbs import JobVerb
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.storage import Collections, Store


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``prepare`` takes: where the documents are, and for what use."""
    parser.add_argument("--source", help="`pydocs` (default), a folder of files, or a name in the catalogue")
    parser.add_argument("--sources", metavar="FILE", help="the catalogue (sources.yaml) that has the source")
    parser.add_argument("--use", choices=("retrieval", "pretraining", "fine-tuning"), help="what the dataset is for")
    parser.add_argument("--name", help="name of the dataset (default: from the source)")


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``index`` takes: which dataset, into which collection, and whether the index goes live."""
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    add_collection_argument(parser, "into which collection (default: the one that has this dataset, else a new one)")
    parser.add_argument("--no-live", action="store_true", help="publish the index without serving it")


def add_collection_argument(parser: argparse.ArgumentParser, meaning: str) -> None:
    """``--collection NAME``, which may also be written ``--name``: an index has a name."""
    parser.add_argument("--collection", "--name", dest="collection", default="", metavar="NAME", help=meaning)


def add_synth_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``synth`` takes: which dataset, how many rows at most, and a seed."""
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="rows wanted (default: as the share allows)")
    parser.add_argument(
        "--share", type=float, default=0.5, metavar="CAP",
        help="most of all rows, real and synthetic together, that may be synthetic (default 0.5)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other rows (default 0)")


def add_tokens_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``tokens`` takes: which dataset and which tokenizer."""
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    parser.add_argument(
        "--tokenizer", required=True, help="a folder with tokenizer.json, or a tokenizer artefact NAME[@VERSION]"
    )


def configure(args: argparse.Namespace, home: Home) -> PlinthConfig:
    """The configuration with this job's own arguments applied; a relative folder is made absolute for the workers."""
    from data_jobs.sources.registry import BUILT_IN

    overrides = []
    if getattr(args, "sources", None):
        overrides.append(f"data.sources={Path(args.sources).expanduser().absolute()}")
    if getattr(args, "use", None):
        overrides.append(f"data.use={args.use}")
    if getattr(args, "source", None):
        named = args.source in BUILT_IN or getattr(args, "sources", None)
        source = args.source if named else str(Path(args.source).expanduser().absolute())
        overrides.append(f"data.source={source}")
    if getattr(args, "name", None):
        overrides.append(f"data.name={args.name}")
    return configured(config_from(args, home), overrides)


def run_prepare(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Prepare a corpus on the running cluster; a source that a policy refuses needs none to be refused."""
    from data_jobs.sources.catalogue import governed

    home = Home.from_env()
    config = configure(args, home)
    governed(config.data)
    with connected(home):
        from data_jobs.prepare_corpus import prepare  # imports ray, which reads its environment then

        return prepare(config, Store(home.store_uri), progress)


def run_index(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Build an index from a dataset on the running cluster and, unless told otherwise, have its collection answer from
    it. Which collection is the default stays as it is."""
    from data_jobs.indexing.collection import collection_for

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    dataset = find_dataset(store, args.dataset)
    name = collection_for(store, config.index.name, dataset, args.collection)
    with connected(home):
        from data_jobs.build_index import build

        index = build(into(config, name), store, dataset, progress)
    if not args.no_live:
        Collections(store, config.index.name).go_live(index.name, index.version, why="index build")
    return index


def into(config: PlinthConfig, collection: str) -> PlinthConfig:
    """The configuration with which an index is built for a collection."""
    return config.model_copy(update={"index": config.index.model_copy(update={"name": collection})})


def run_synth(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Make synthetic rows of a dataset on the running cluster."""
    home = Home.from_env()
    store = Store(home.store_uri)
    dataset = find_dataset(store, args.dataset)
    with connected(home):
        from data_jobs.make_synthetic import synthesise

        return synthesise(store, dataset, progress, args.count, args.share, args.seed)


def run_tokens(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Tokenise a dataset on the running cluster."""
    from data_jobs.corpus.tokens import find_encoder

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    dataset, encoder = find_dataset(store, args.dataset), find_encoder(store, args.tokenizer)
    with connected(home):
        from data_jobs.make_tokens import tokenise

        return tokenise(store, dataset, encoder, config.train.held_out, progress)


def find_dataset(store: Store, reference: str) -> Manifest:
    """``NAME@VERSION``, ``NAME`` (its latest), or empty for the most recently prepared dataset.

    Raises:
        BadInputError: there is none.
    """
    from cluster.core.errors import BadInputError

    if reference:
        name, _, version = reference.partition("@")
        return store.manifest("datasets", name, version or "latest")
    named = [name for name in store.names("datasets") if store.alias("datasets", name, "latest")]
    latest = [store.manifest("datasets", name, "latest") for name in named]
    if not latest:
        raise BadInputError("no dataset has been prepared yet: run `plinth data prepare --source FOLDER` first")
    return max(latest, key=lambda manifest: manifest.created_at)


JOBS = (
    JobVerb(
        "prepare", "Prepare a corpus: extract, normalise, filter, deduplicate, redact.", add_prepare_arguments,
        run_prepare,
        "Bad files and records are quarantined one by one (`plinth data report` lists them); the rest goes on.",
    ),
    JobVerb(
        "index", "Build an index from a prepared dataset and have a collection answer from it.", add_index_arguments,
        run_index,
        "A collection is an index with a name. The first one is `index.name`; a dataset that none has yet gets a new\n"
        "one of its own name, so that nothing that answers is replaced. `plinth index use NAME` makes it the default.\n"
        "Running services pick it up by themselves, without a restart and without a failed request.",
    ),
    JobVerb(
        "synth", "Make synthetic questions, answers with passages, and paraphrases out of a dataset.",
        add_synth_arguments, run_synth,
        "Rules make them, no language model. Each row is tagged `synthetic` and names its document, span, rule and\n"
        "seed; what the filters left out is counted by reason. More rows than --share allows beside the real\n"
        "documents are refused (exit code 4); without --count as many are made as it allows.\n\n"
        "Example: plinth data synth --dataset handbook --count 500 --share 0.3",
    ),
    JobVerb(
        "tokens", "Tokenise a dataset into the shards that pretraining reads.", add_tokens_arguments, run_tokens,
        "Each shard has a side to train on and one that is held out (train.held_out, by the hash of a document's id):\n"
        "token ids (.npy), every document with its name and title between begin and end token, and the places where\n"
        "documents start. `plinth train pretrain` makes the same where they are missing. The same dataset and\n"
        "tokenizer give the same bytes.\n\n"
        "Example: plinth data tokens --dataset handbook --tokenizer small",
    ),
)  # fmt: skip
