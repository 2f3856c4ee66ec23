"""A model that writes answers from quoted evidence: adapters on a pretrained base, merged, judged against what answers
without it, and published under the name that the judgement earned.

It learns from the examples of the pointing model, and is asked the same held-out questions. Only where it is better
than the pointing model and than the quote tier, and quick enough, does it take the pointing model's name; else it gets
a name of its own, and is reached by that alone.
"""

from __future__ import annotations

import json
import os
import posixpath
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.policies.gate import decide
from actors.registry.models import KIND as MODELS
from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.train import QUESTIONS, VERDICT
from cluster.core.storage import Store, storage_errors
from train_jobs.answering.grounded import FORMAT, NEW_TOKENS, prompt_of
from train_jobs.build_model import BuiltModel, judge
from train_jobs.evaluation.held_out import Heard, Row, hear, load_rows
from train_jobs.export.converted import ConvertedModel
from train_jobs.export.rounding import INT8
from train_jobs.publishing.artefact import KIND, TRAINING
from train_jobs.recipes.chat import conversation, learn
from train_jobs.recipes.grounded_rows import conversations, evidence_of_row
from train_jobs.recipes.language_model import open_model
from train_jobs.recipes.rows import BadRowError, Rows
from train_jobs.recipes.training import KEY_INSIDE, KEY_OUTSIDE, request
from train_jobs.recipes.turns import Turns
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from actors.spawn import RegistryClient
    from train_jobs.launch import TrainingWorkers

LEARNING = RunKey("grounded", (__name__, "train_jobs.recipes.grounded_rows"), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
JUDGING = RunKey(
    "grounded-model", (__name__, "train_jobs.evaluation.written", "train_jobs.publishing.publish"),
    inside=QUESTIONS, outside=(*sections_but("gate"), *VERDICT),
)  # fmt: skip
RATE, EPOCHS, RANK = 5e-4, 1.0, 8
CONTEXT = 1024  # tokens of a row; a prompt has about 300
SUFFIX = "-writer"


def train_grounded(
    config: PlinthConfig, store: Store, examples: Manifest, base: Manifest, name: str, progress: Progress,
    epochs: float = EPOCHS, rate: float = RATE, workers: TrainingWorkers | None = None, code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Teach a checkpoint to write from evidence and publish ``checkpoints/<name>``, its adapters merged into it.

    Args:
        examples: of the corpus, as ``plinth train examples`` makes them.
        base: a checkpoint with a chat template. Adapters learn on it: ``train.lora_rank``, or ``RANK`` where that is 0.

    Raises:
        BadInputError: too few examples, or no chat template.
        PlinthError: what ``open_model`` and ``learn`` raise.
    """
    section = config.train
    if not section.lora_rank:
        section = section.model_copy(update={"lora_rank": RANK})
    turns = Turns(store, open_model(store, base, CONTEXT))
    progress.stage("tokenise")
    rows = rows_of(store, examples, turns)
    inputs = {"examples": f"{examples.name}@{examples.version}", "base": turns.base.reference}
    asked = request(LEARNING, "chat", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate)
    return learn(section, store, asked, rows, turns, progress, epochs, rate, workers)


def rows_of(store: Store, examples: Manifest, turns: Turns) -> Rows:
    """The conversations of an examples artefact, both sides; what the model's template or context cannot hold is
    refused by row.

    Raises:
        IntegrityError: the artefact is damaged.
        BadInputError: it was made before examples held evidence, or has too few.
    """
    store.verify(examples)
    folder = store.artefact(examples)
    sides: dict[str, list[dict[str, Any]]] = {}
    refused: list[str] = []
    for side in ("train", "held_out"):
        lines = store.read(posixpath.join(folder, f"{side}.jsonl")).decode().splitlines()
        found = [json.loads(line) for line in lines]
        if found and "evidence" not in found[0]:
            raise BadInputError(
                f"examples {examples.name}@{examples.version} hold no evidence: make them again with "
                "`plinth train examples`"
            )
        sides[side] = []
        for number, messages in enumerate(conversations(found), 1):
            try:
                sides[side].append(conversation(turns, messages))
            except BadRowError as error:
                refused.append(f"{side} {number}: {error}")
    made = Rows(sides["train"], sides["held_out"], examples.version, refused)
    if min(len(made.train), len(made.held_out)) < 2:
        raise BadInputError(
            f"examples {examples.name}@{examples.version} make {len(made.train)} conversations to learn from and "
            f"{len(made.held_out)} held out: too few"
        )
    return made


def publish_grounded(
    config: PlinthConfig, store: Store, checkpoint: Manifest, examples: Manifest, progress: Progress,
    registry: RegistryClient | None = None,
) -> BuiltModel:  # fmt: skip
    """Convert, compare on the held-out questions, decide, and publish under the name that this earned.

    Raises:
        PlinthError: what ``publish_model`` and ``judge`` raise.
    """
    from train_jobs.publishing.publish import enrol, publish_model

    index = examples.inputs.get("index", "")
    pointing = pointing_model(store, config.train.name, examples)
    inputs = {
        "checkpoint": f"{checkpoint.name}@{checkpoint.version}", "base": checkpoint.inputs.get("base", ""),
        "examples": f"{examples.name}@{examples.version}", "index": index,
        "dataset": examples.inputs.get("dataset", ""),
    }  # fmt: skip
    beside = {"pointing": f"{pointing.name}@{pointing.version}"} if pointing else {}
    run_key = JUDGING(inputs={**inputs, **beside}, config=JUDGING.settings(config.gate), name=config.train.name)
    direct = registry or Registry(store)
    if found := store.find_run(run_key):
        metrics = store.read_json(posixpath.join(store.artefact(found), "metrics.json"))
        return judge(config, store, enrol(store, direct, found), index, metrics["held_out"], registry)
    cache = Home.from_env().root / "cache"
    folder = store.fetch(checkpoint, cache)
    rows = load_rows(store, examples, config.gate)
    report = compared(rows, folder, store.fetch(pointing, cache) if pointing else None, progress)
    passed = decide(report, config.gate).passed
    name = config.train.name if passed else config.train.name + SUFFIX
    model = publish_model(
        config, store, name, folder,
        {
            "format": FORMAT, "weights": INT8, "context_tokens": CONTEXT,
            "license": "those of its base and of the corpus",
            "knowledge_cutoff": examples.created_at, "provenance": {**inputs, **beside},
        },
        {"training": json.loads((folder / TRAINING).read_text()), "held_out": report},
        progress, run_key=run_key, registry=direct,
    )  # fmt: skip
    return judge(config, store, model, index, report, registry)


def pointing_model(store: Store, name: str, examples: Manifest) -> Manifest | None:
    """The newest pointing model of a name that was made from these examples, and so can be asked their prompts; None
    where there is none."""
    wanted = f"{examples.name}@{examples.version}"
    known = store.versions(MODELS, name) if name in store.names(MODELS) else []
    return next((one for one in reversed(known) if one.inputs.get("examples") == wanted and "tokenizer" in one.inputs),
                None)  # fmt: skip


def compared(rows: list[dict[str, Any]], folder: Path, pointing: Path | None, progress: Progress) -> dict[str, Any]:
    """The report of ``written.compare``: the checkpoint in ``folder`` as the service would run it, in 8 bits, and the
    pointing model, asked the same."""
    from train_jobs.evaluation.generate import load_generator
    from train_jobs.evaluation.written import compare, hear_writer
    from train_jobs.export.openvino_graph import export

    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="plinth-writer-") as private, storage_errors(private):
        progress.stage("convert to 8 bits")
        export(folder, Path(private), int8=True)
        model = ConvertedModel(Path(private), threads, NEW_TOKENS)
        progress.stage("measure its pace")
        pace = model.pace()
        progress.stage("held-out questions", len(rows), "questions")
        writer, counts = hear_writer(rows, model.generate, prompts_of(model))
        del model
    progress.stage("ask the pointing model", len(rows), "questions")
    other: Heard | None = hear(rows, load_generator(pointing, threads)) if pointing else None
    return compare(rows, writer, counts, other, pace)


def prompts_of(model: ConvertedModel) -> Callable[[Row], str]:
    """The prompt of a row for a model, as the service makes it."""
    return lambda row: prompt_of(row["question"], evidence_of_row(row), model.tokenizer)
