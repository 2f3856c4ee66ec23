"""The verbs of the recipes: ``plinth train embedder --data FILE`` and so on, joined to the table of training jobs."""

from __future__ import annotations

import argparse
import math
from typing import Any

from cluster.connect import connected
from cluster.core.config import PlinthConfig
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.job_verbs import JobVerb, refused_if_not_passed
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.storage import LIVE, Store
from train_jobs.arguments import add_code_change, code_change_of, find

NO_DATA = "--data is missing: name a JSONL file"
WRITER_BASE = "smollm2"  # as ``publishing.smollm2.NAME``
ROWS = "Bad rows are counted and named; a file with too few good ones is refused. A row's `split` (train, test)\n"\
       "decides its side, else its content does."  # fmt: skip


def add_data(parser: argparse.ArgumentParser, what: str) -> None:
    """``--data`` and what every recipe takes."""
    parser.add_argument("--data", default="", metavar="FILE", help=what)
    _add_run(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="", help="name of what is published (default: by its base, or the recipe)")
    parser.add_argument("--epochs", type=float, help="passes over the data (train.steps, where set, counts instead)")
    parser.add_argument("--rate", type=float, help="peak of the learning rate")
    add_code_change(parser)


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


def add_classifier_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_classifier`` reads them."""
    add_data(parser, "JSONL of {text, text_pair?, label}")
    parser.add_argument("--base", default="minilm", help="minilm, a published embedder, a folder or a hub's id")
    parser.add_argument("--rows", type=int, help="rows of a step")


def run_classifier(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train a classifier on the running cluster."""
    from train_jobs.recipes.classifier import train_classifier

    config, store, chosen = ready(args, "epochs", "rate", "rows")
    with connected(Home.from_env()):
        return train_classifier(config, store, args.data, args.base, args.name or "classifier", progress, **chosen)


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_reader`` reads them."""
    add_data(parser, "JSONL of {question, title, text, answerable, answer?, document?}")
    parser.add_argument("--base", default="minilm", help="minilm, shipped, a published reader or embedder, a folder")
    parser.add_argument("--rows", type=int, help="rows of a step")
    parser.add_argument("--layers", type=int, help="how many layers of the base are kept")
    parser.add_argument("--licence", default="", help="of the data, for the card")


def run_reader(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train a reader on the running cluster."""
    from train_jobs.recipes.reader import train_reader

    config, store, chosen = ready(args, "epochs", "rate", "rows", "layers")
    with connected(Home.from_env()):
        return train_reader(config, store, args.data, args.base, args.name or "reader", progress, **chosen,
                            licence=args.licence)  # fmt: skip


def add_router_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_router`` reads them."""
    parser.add_argument(
        "--data", default="", metavar="FILE", help="JSONL of {prompt, subject, weak_correct, strong_correct}"
    )
    parser.add_argument("--name", default="router", help="name of what is published (default: router)")
    parser.add_argument("--licence", default="", help="of the data, for the card")


def run_router(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train a router between two tiers; needs no cluster."""
    from train_jobs.recipes.router import train_router

    if not args.data:
        raise UsageError(NO_DATA)
    home = Home.from_env()
    store = Store(home.store_uri)
    return train_router(config_from(args, home), store, args.data, args.name, progress, args.licence)


def add_safety_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_safety`` reads them."""
    parser.add_argument(
        "--data", default="", metavar="FILE", help="JSONL of {text, label (benign, injection, harmful), set, slice?}"
    )
    parser.add_argument(
        "--name", default="safety", help="name of what is published (default: safety, which alone the guard follows)"
    )
    parser.add_argument("--licence", default="", help="of the data, for the card")
    parser.add_argument(
        "--judge", action="store_true", help="the rows only judge: heads learn from written texts and decisions alone"
    )


def run_safety(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train the heads of the guard ``classifier``; needs no cluster. That others answer from now on is written into
    the audit log."""
    from actors.audit.events import record_event
    from data_jobs.safety.in_force import KIND, NAME
    from train_jobs.recipes.safety import train_safety

    if not args.data:
        raise UsageError(NO_DATA)
    home = Home.from_env()
    config, store = config_from(args, home), Store(home.store_uri)
    before = store.alias(KIND, NAME, LIVE)
    made = train_safety(config, store, args.data, args.name, progress, args.licence, judge=args.judge)
    if (now := store.alias(KIND, NAME, LIVE)) != before:
        record_event(home, config.trust.audit, "heads_live", before=before or "shipped", now=now)
    return made


def refused_if_judged(made: Manifest) -> ExitCode:
    """4 where decisions judged the heads and the gate refused them."""
    return refused_if_not_passed(made) if "passed" in made.counts else ExitCode.DONE


def add_masked_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_masked`` reads them."""
    add_data(parser, "JSONL of {text}")
    parser.add_argument("--base", default="minilm", help="minilm, a published embedder, a folder or a hub's id")
    parser.add_argument("--rows", type=int, help="rows of a step")


def run_masked(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train an encoder on masked tokens, on the running cluster."""
    from train_jobs.recipes.masked import train_masked

    config, store, chosen = ready(args, "epochs", "rate", "rows")
    with connected(Home.from_env()):
        return train_masked(config, store, args.data, args.base, args.name or "encoder", progress, **chosen)


def add_document_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_document_encoder`` reads them."""
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    _add_run(parser)
    parser.add_argument("--base", default="minilm", help="the embedder that teaches: minilm, a published one, a folder")
    parser.add_argument("--rows", type=int, help="chunks of a step")


def run_document_encoder(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Teach a document encoder, on the running cluster."""
    from data_jobs.commands import find_dataset
    from train_jobs.recipes.document_encoder import train_document_encoder

    config, store, chosen = ready(args, "epochs", "rate", "rows")
    dataset = find_dataset(store, args.dataset)
    with connected(Home.from_env()):
        return train_document_encoder(
            config, store, dataset, args.base, args.name or "documents", progress, **chosen
        )  # fmt: skip


def add_image_text_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_image_text`` reads them."""
    add_data(parser, "JSONL of {file, caption, tags?}; files below its folder")
    parser.add_argument("--base", default="minilm", help="the embedder of the captions")
    parser.add_argument("--pairs", type=int, help="pairs of a step, each other's wrong ones")


def run_image_text(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train towers for images and captions on the running cluster."""
    from train_jobs.recipes.image_text import train_image_text

    config, store, chosen = ready(args, "epochs", "rate", "pairs")
    with connected(Home.from_env()):
        return train_image_text(config, store, args.data, args.base, args.name or "image-text", progress, **chosen)


def add_chat_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_chat`` reads them."""
    add_data(parser, "JSONL of {messages}, in OpenAI's form")
    parser.add_argument("--base", default="", help="checkpoint, NAME or NAME@VERSION (default: the latest pretrained)")


def run_chat(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Fine-tune a checkpoint on conversations, on the running cluster."""
    from train_jobs.recipes.chat import train_chat

    config, store, chosen = ready(args, "epochs", "rate")
    base = find(store, "checkpoints", args.base or f"{config.train.name}-base", "plinth train pretrain")
    with connected(Home.from_env()):
        return train_chat(config, store, args.data, base, args.name or f"{base.name}-chat", progress, **chosen)


def add_grounded_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_grounded`` reads them."""
    parser.add_argument("--examples", default="", help="NAME or NAME@VERSION (default: the latest of train.name)")
    parser.add_argument(
        "--base", default=WRITER_BASE, help="what is taught: smollm2 (a package), a checkpoint, a folder, a hub's id"
    )
    _add_run(parser)


def run_grounded(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Teach a pretrained model to write from evidence, on the running cluster; returns the gate's report of it."""
    from train_jobs.publishing.base import keep_base
    from train_jobs.publishing.sources import model_of
    from train_jobs.recipes.grounded import SUFFIX, publish_grounded, train_grounded

    config, store, chosen = ready(args, "epochs", "rate")
    examples = find(store, "examples", args.examples or config.train.name, "plinth train examples")
    name = args.name or config.train.name + SUFFIX
    if args.base.partition("@")[0] in store.names("checkpoints"):
        base = find(store, "checkpoints", args.base, "plinth train pretrain")
    else:
        progress.stage("look at the base")
        with model_of(store, args.base) as (folder, origin):
            base = keep_base(store, folder, origin, args.base if args.base == WRITER_BASE else f"{name}-base")
    home = Home.from_env()
    with connected(home):
        from actors import spawn  # imports ray, which reads its environment then

        made = train_grounded(config, store, examples, base, name, progress, **chosen)
        return publish_grounded(config, store, made, examples, progress, spawn.registry(store, home)).judged


def add_preference_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_preference`` reads them."""
    add_data(parser, "JSONL of {prompt, chosen, rejected}")
    parser.add_argument("--base", default="", help="checkpoint, NAME or NAME@VERSION (default: the latest pretrained)")
    parser.add_argument("--pairs", type=int, help="pairs of a step")
    parser.add_argument("--beta", type=float, help="how closely the model keeps to its base")


def run_preference(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Tune a checkpoint towards preferred answers, on the running cluster."""
    from train_jobs.recipes.preference import train_preference

    config, store, chosen = ready(args, "epochs", "rate", "pairs", "beta")
    base = find(store, "checkpoints", args.base or f"{config.train.name}-base", "plinth train pretrain")
    with connected(Home.from_env()):
        return train_preference(config, store, args.data, base, args.name or f"{base.name}-dpo", progress, **chosen)


def add_distill_arguments(parser: argparse.ArgumentParser) -> None:
    """As ``run_distill`` reads them."""
    parser.add_argument(
        "--teacher", default="", help="checkpoint, NAME or NAME@VERSION (default: the latest pretrained)"
    )
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    _add_run(parser)
    parser.add_argument("--weight", type=float, help="how much of the loss is the teacher's, above 0 and up to 1")
    parser.add_argument("--temperature", type=float, help="under which teacher and student are compared")
    parser.add_argument("--written", type=int, help="texts that the teacher writes, to be read beside the dataset")


def run_distill(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Train a student, on the running cluster."""
    from data_jobs.commands import find_dataset
    from train_jobs.recipes.distill import distill

    config, store, chosen = ready(args, "epochs", "rate", "weight", "temperature", "written")
    if chosen.get("weight", 1.0) > 1:
        raise UsageError(f"--weight {args.weight}: give at most 1")
    teacher = find(store, "checkpoints", args.teacher or f"{config.train.name}-base", "plinth train pretrain")
    dataset = find_dataset(store, args.dataset)
    with connected(Home.from_env()):
        return distill(config, store, teacher, dataset, args.name or f"{teacher.name}-student", progress, **chosen)


def ready(args: argparse.Namespace, *numbers: str) -> tuple[PlinthConfig, Store, dict[str, Any]]:
    """The configuration, the store, and what a recipe's function is told: those of ``numbers`` that were
    given, and what to do with a run that other code began.

    Raises:
        UsageError: a ``--data`` that is needed is missing, or a number is not above 0.
        BadInputError: that file cannot be read.
    """
    from train_jobs.recipes.rows import opened

    if not getattr(args, "data", "none"):
        raise UsageError(NO_DATA)
    if hasattr(args, "data"):
        opened(args.data).close()  # a name misspelt is said at once, not after the cluster and the base were looked for
    home = Home.from_env()
    chosen: dict[str, Any] = {name: getattr(args, name) for name in numbers if getattr(args, name) is not None}
    for name, value in chosen.items():
        if not 0 < value < math.inf:
            raise UsageError(f"--{name} {value}: give a number above 0")
    return config_from(args, home), Store(home.store_uri), {**chosen, "code_change": code_change_of(args)}


WRITER = (
    "It learns from the examples of `plinth train model`, is asked the same held-out questions as the pointing model\n"
    "and as `quote`, and takes the name of the pointing model only where it is better than both and quick enough;\n"
    "else it answers by its own name alone (exit code 4)."
)
PRIVATE = "With train.dp_epsilon each row is protected (DP-SGD); a run without tells what that costs."
ROUTED = (
    "Rows are questions that a small and a large tier answered, with how good either answer was (true, false, or 0 to\n"
    "1). Subjects are kept apart: half to learn from, a quarter to choose thresholds on, a quarter to tell by. Exit\n"
    "code 4 where it is not surely better than chance. `plinth router tune --target-cost X` puts it to use."
)
SAFETY = (
    "Every row is judged by a model that saw no row of its set. Benign rows may be of the slice `business` or\n"
    "`look_alike`: what is flagged of these is over-blocking. A head that misses its bar flags and never blocks.\n"
    "Where decisions are among the rows (`plinth review export`), two fifths of them only judge: heads that agree\n"
    "with people on surely more of them than those in use, and lose nothing elsewhere, are used by the guard at once;\n"
    "else exit code 4. `plinth review rollback` takes them back, the same command puts them to use again."
)
RECIPES = (
    JobVerb("chat", "Fine-tune a model on conversations: what the assistant said, packed.", add_chat_arguments,
            run_chat, f"{ROWS}\n{PRIVATE}"),
    JobVerb("grounded", "Teach a pretrained model to write short answers from quoted evidence, and judge it.",
            add_grounded_arguments, run_grounded, WRITER, refused_if_not_passed),
    JobVerb("preference", "Tune a model towards preferred answers (DPO).", add_preference_arguments, run_preference,
            ROWS),
    JobVerb("distill", "Train a small model on a dataset and on what a large one thinks of it.",
            add_distill_arguments, run_distill, "The student has the sizes of the train section."),
    JobVerb("embedder", "Fine-tune the embedder on pairs of queries and the texts that answer them.",
            add_embedder_arguments, run_embedder,
            f"{ROWS}\nTo search with it, set index.embedder to its folder in the store and build an index."),
    JobVerb("classifier", "Train a classifier of texts, or of pairs of texts, with calibrated probabilities.",
            add_classifier_arguments, run_classifier, f"{ROWS}\n{PRIVATE}"),
    JobVerb("reader", "Train the reader: whether a piece of text answers a question, and where.", add_reader_arguments,
            run_reader, f"{ROWS}\nRows of one document, or else of one title, are on one side."),
    JobVerb("router", "Train the router: how likely the small tier's answer to a question suffices.",
            add_router_arguments, run_router, ROUTED, refused_if_not_passed),
    JobVerb("safety", "Train the heads of the guard `classifier`: injections and harmful requests.",
            add_safety_arguments, run_safety, SAFETY, refused_if_judged),
    JobVerb("masked", "Train an encoder on the masked tokens of texts; embedders and classifiers go on from it.",
            add_masked_arguments, run_masked, ROWS),
    JobVerb("document-encoder", "Teach a small network an embedder's vectors of documents, to index faster.",
            add_document_encoder_arguments, run_document_encoder,
            "To index with it, set index.document_encoder to its folder in the store and build an index."),
    JobVerb("image-text", "Train small towers for images and captions (CLIP).", add_image_text_arguments,
            run_image_text, ROWS),
)  # fmt: skip
