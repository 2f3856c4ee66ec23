"""The arguments and the work of this folder's jobs: the same from ``plinth``, --submit, ``python -m train_jobs``."""

from __future__ import annotations

import argparse

from cluster.connect import connected
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, UsageError
from cluster.core.home import Home
from cluster.core.job_verbs import JobVerb, refused_if_not_passed
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, LIVE, Collections, Store
from train_jobs.adaptation.commands import ADAPT
from train_jobs.arguments import add_code_change, code_change_of, configure, find, mixture_of, seconds_of
from train_jobs.planning import commands as planning
from train_jobs.planning.outset import look_ahead
from train_jobs.recipes.commands import RECIPES


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    """``--dataset`` and ``--name``, as ``run_tokenizer`` reads them."""
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    _add_name(parser)


def add_base_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, ``--dataset``, ``--tokens`` and ``--name``, as ``run_base`` reads them."""
    parser.add_argument("source", help="a registered model, a folder, `smollm2`, or a hub's id (OWNER/NAME)")
    parser.add_argument("--dataset", default="", help="dataset to learn more tokens from, NAME or NAME@VERSION")
    parser.add_argument("--tokens", type=int, default=0, help="how many tokens to learn from it (default 0)")
    _add_name(parser)


def add_pretrain_arguments(parser: argparse.ArgumentParser) -> None:
    """Datasets with weights and limits, ``--tokenizer``, ``--name``, ``--minutes``, as ``run_pretrain`` reads them."""
    parser.add_argument(
        "--dataset", action="append", metavar="NAME[=WEIGHT]",
        help="dataset, NAME or NAME@VERSION (default: the newest prepared); several are mixed: a=0.7,b=0.3",
    )  # fmt: skip
    parser.add_argument(
        "--max-epochs", default="", metavar="N", help="most passes over each dataset: 2, or a=2,b=4 (default: no limit)"
    )
    parser.add_argument("--tokenizer", default="", help="NAME or NAME@VERSION (default: the latest of this model name)")
    _add_name(parser)
    _add_budget(parser)


def add_finetune_arguments(parser: argparse.ArgumentParser) -> None:
    """``--base``, ``--examples``, ``--name`` and ``--minutes``, as ``run_finetune`` reads them."""
    parser.add_argument("--base", default="", help="checkpoint, NAME or NAME@VERSION (default: the latest pretrained)")
    parser.add_argument("--examples", default="", help="NAME or NAME@VERSION (default: the latest of this model name)")
    _add_name(parser)
    _add_budget(parser)


def add_examples_arguments(parser: argparse.ArgumentParser) -> None:
    """``--dataset``, ``--index``, ``--tokenizer`` and ``--name``, as ``run_examples`` reads them."""
    _add_corpus(parser)
    parser.add_argument("--tokenizer", default="", help="NAME or NAME@VERSION (default: the latest of this model name)")
    _add_name(parser)


def add_gate_arguments(parser: argparse.ArgumentParser) -> None:
    """``--model`` and ``--name``, as ``run_gate`` reads them."""
    parser.add_argument("--model", default="", help="NAME or NAME@VERSION (default: the newest of this model name)")
    _add_name(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``--dataset``, ``--index``, ``--name`` and ``--minutes`` (of both stages), as ``run_model`` reads them."""
    _add_corpus(parser)
    _add_name(parser)
    parser.add_argument("--minutes", type=float, help="budget of both training stages (default: train.minutes)")
    add_code_change(parser)


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    parser.add_argument("--index", default="", help="its index, NAME or NAME@VERSION (default: the live one)")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="name of the model (default: train.name)")


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, help="budget of this stage (default: its share of train.minutes)")
    add_code_change(parser)


def run_tokenizer(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train a tokenizer; needs no cluster."""
    from data_jobs.commands import find_dataset
    from train_jobs.data.tokenizer import train_tokenizer

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    return train_tokenizer(config, store, find_dataset(store, args.dataset), progress)


def run_base(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Take somebody's model as the base to train on; needs no cluster."""
    from data_jobs.commands import find_dataset
    from data_jobs.corpus.tokens import document_text
    from train_jobs.data.batches import read_documents
    from train_jobs.publishing.base import take_base
    from train_jobs.publishing.sources import model_of

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    if bool(args.dataset) != bool(args.tokens) or args.tokens < 0:
        raise UsageError("--dataset and --tokens stand together: which corpus, and how many tokens to learn from it")
    dataset = find_dataset(store, args.dataset) if args.tokens else None
    read = read_documents(store, dataset, config.train.held_out) if dataset else ()
    texts = (document_text(one.document) for one in read if not one.held_out)
    progress.stage("look at the files")
    with model_of(store, args.source) as (folder, origin):
        return take_base(config, store, folder, origin, progress, dataset, texts, args.tokens)


def run_pretrain(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Pretrain on the running cluster."""
    from train_jobs.launch import pretrain

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    mixture = mixture_of(store, args)
    tokenizer = find(store, "tokenizers", args.tokenizer or config.train.name, "plinth train tokenizer")
    with connected(home):
        change = code_change_of(args)
        return pretrain(config, store, mixture, tokenizer, progress, seconds_of(args), code_change=change)


def run_finetune(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Fine-tune on the running cluster."""
    from train_jobs.launch import finetune

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    base = find(store, "checkpoints", args.base or f"{config.train.name}-base", "plinth train pretrain")
    examples = find(store, "examples", args.examples or config.train.name, "plinth train examples")
    with connected(home):
        return finetune(config, store, base, examples, progress, seconds_of(args), code_change=code_change_of(args))


def run_examples(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Make the examples of a corpus on the running cluster."""
    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    dataset, index = find_corpus(config, store, args)
    tokenizer = find(store, "tokenizers", args.tokenizer or config.train.name, "plinth train tokenizer")
    with connected(home):
        from train_jobs.make_examples import make_examples  # imports ray, which reads its environment then

        return make_examples(config, store, dataset, index, tokenizer, progress)


def run_gate(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Judge a published model again; returns the gate's report, which counts whether it ``passed``."""
    from train_jobs.build_model import judge_again

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    model = find(store, "models", args.model or config.train.name, "plinth train model")
    progress.stage("judge")
    with connected(home):
        return judge_again(config, store, model).judged


def run_model(args: argparse.Namespace, progress: Progress) -> Manifest:
    """The whole life of a model, from a prepared and indexed corpus; returns the gate's report of it."""
    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    dataset, index = find_corpus(config, store, args)
    with connected(home):
        from train_jobs.build_model import Untimed, build_model

        stages, change = Untimed(progress), code_change_of(args)
        return build_model(config, store, dataset, index, stages, seconds_of(args), change).judged


def find_corpus(config: PlinthConfig, store: Store, args: argparse.Namespace) -> tuple[Manifest, Manifest]:
    """The dataset and the index that ``--dataset`` and ``--index`` name. An index of another dataset is refused.

    Raises:
        BadInputError: there is no such dataset or index, or the index was built from another dataset.
    """
    from data_jobs.commands import find_dataset

    name, _, version = args.index.partition("@")
    name = name if version else Collections(store, config.index.name).find(name)
    index = store.manifest(INDEXES, name, version or LIVE)
    dataset = find_dataset(store, args.dataset or index.inputs.get("dataset", ""))
    theirs, ours = index.inputs.get("dataset"), f"{dataset.name}@{dataset.version}"
    if theirs != ours:
        raise BadInputError(
            f"the index {name}@{index.version} was built from {theirs}, not from {ours}: name its dataset, or build an "
            f"index of yours with `plinth index build --dataset {ours}`"
        )
    return dataset, index


RESUMED = (
    "Ctrl-C or SIGTERM writes a checkpoint; the same command goes on from there, also after a kill -9.\n"
    "A finished identical run is reused. `plinth runs list` shows what runs, `plinth runs cancel` stops it."
)
BASE = (
    "It becomes what `plinth train pretrain` would have made, so that `plinth train examples` and `finetune` go on\n"
    "from it. Code of a model is never run and pickles are never read: both are refused."
)
JUDGED = "Exit code 4 where the gate refuses the model: it then answers only to those who ask for it by name."
JOBS = (
    JobVerb("tokenizer", "Train a byte-level BPE tokenizer on a dataset.", add_tokenizer_arguments, run_tokenizer),
    JobVerb("base", "Take a pretrained model as the base, with its tokenizer and the tokens of the prompt.",
            add_base_arguments, run_base, BASE),
    JobVerb("pretrain", "Pretrain a model on a dataset, with Ray Train.", add_pretrain_arguments,
            run_pretrain, RESUMED, dry_run=look_ahead),
    JobVerb("examples", "Make the examples of a corpus: for fine-tuning, and the gate's questions.",
            add_examples_arguments, run_examples),
    JobVerb("finetune", "Fine-tune a pretrained model for grounded answering.", add_finetune_arguments, run_finetune,
            RESUMED, dry_run=look_ahead),
    JobVerb("gate", "Judge a published model again, and promote or refuse it.", add_gate_arguments, run_gate, JUDGED,
            refused_if_not_passed),
    JobVerb("model", "The whole life of a model: tokenizer, pretraining, examples, fine-tuning, evaluation, gate.",
            add_model_arguments, run_model, f"{RESUMED}\n{JUDGED}", refused_if_not_passed, look_ahead),
    JobVerb("plan", "Predict loss, time, cost and replicas of a larger run from a short sweep of sizes.",
            planning.add_plan_arguments, planning.run_plan, planning.DETAILS),
    *RECIPES,
    ADAPT,
)  # fmt: skip
