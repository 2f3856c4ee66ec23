"""A small model that learns from a large one: its probabilities of every token, and texts that it writes."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey
from cluster.core.sections.train import SIZE
from cluster.core.storage import Store
from data_jobs.corpus.tokens import document_text
from data_jobs.governance.policies import check_use
from train_jobs.answering.special_tokens import BOS
from train_jobs.data.batches import Arrays, check_documents, read_documents
from train_jobs.data.texts import flat
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec
from train_jobs.models.weights import weight_hashes
from train_jobs.objectives.chat import Packed
from train_jobs.publishing.artefact import KIND
from train_jobs.recipes.language_model import LanguageModel, as_json, files_of, open_model
from train_jobs.recipes.training import (
    KEY_INSIDE,
    KEY_OUTSIDE,
    Finished,
    Training,
    begin,
    carry_out,
    request,
    run,
    steps_of,
)
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from torch import nn

    from train_jobs.launch import TrainingWorkers

KEY = RunKey(
    "distill", (__name__,), inside=(*KEY_INSIDE, *SIZE, "train.context_tokens"),
    outside=tuple(name for name in KEY_OUTSIDE if name not in (*SIZE, "train.context_tokens")),
)  # fmt: skip
RATE, EPOCHS, WEIGHT, TEMPERATURE = 3e-3, 1.0, 0.7, 1.0
HELD_OUT_TOKENS = 16_384
WRITTEN_AT_ONCE = 32


def distill(
    config: PlinthConfig, store: Store, teacher: Manifest, dataset: Manifest, name: str, progress: Progress,
    epochs: float = EPOCHS, rate: float = RATE, weight: float = WEIGHT, temperature: float = TEMPERATURE,
    written: int = 0, workers: TrainingWorkers | None = None, code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Train a student of the configured size on a dataset and its teacher, and publish ``checkpoints/<name>``.

    What the teacher is worth is counted as ``held_out_loss_without_teacher``: that of the same student after as many
    steps on the documents alone.

    Args:
        weight: how much of the loss is the teacher's, 0 to 1; temperature: under which both are compared.
        written: how many texts the teacher writes, which are read beside the documents.

    Raises:
        BadInputError: the dataset is too small, or the teacher cannot be used.
        PolicyRefusedError: the dataset's source does not allow pretraining.
        PlinthError: what ``open_model`` and ``carry_out`` raise.
    """
    section = config.train
    check_use(dataset, "pretraining", config.data)
    check_documents(section, dataset, labelled=config.data.train_labelled)
    taught_by = open_model(store, teacher)
    model = LlamaSpec(Shape.of(section, taught_by.model.vocab))
    chosen = {"epochs": epochs, "rate": rate, "weight": weight, "temperature": temperature, "written": written}
    inputs = {"dataset": f"{dataset.name}@{dataset.version}", "teacher": taught_by.reference}
    inputs |= {part: value for part, value in teacher.inputs.items() if part == "tokenizer"}
    asked = request(KEY, "distillation", KIND, name, inputs, section, code_change, **chosen)
    if (found := begin(store, asked)) is not None:
        return found
    if workers is None:
        from train_jobs import fit  # imports ray

        with fit.Workers(section, store) as own:
            return distill(config, store, teacher, dataset, name, progress, epochs, rate, weight, temperature, written,
                           own, code_change)  # fmt: skip
    progress.stage("tokenise")
    context = min(section.context_tokens, taught_by.model.context)
    sides = documents_of(store, dataset, taught_by, section.held_out, context)
    batches = Packed(arrays_of(sides["train"]), model.context, section.batch_tokens, section.seed, taught_by.pad)
    steps = steps_of(section, batches.steps_per_epoch, epochs)
    options = {
        "teacher": taught_by.model.to_dict(), "teacher_weights": store.artefact(teacher),
        "teacher_files": weight_hashes(teacher), "weight": weight, "temperature": temperature,
    }  # fmt: skip
    counts: dict[str, Any] = {f"{side}_tokens": sum(map(len, rows)) for side, rows in sides.items()}
    training = Training(
        asked, counts, model, both_sides(sides), taught_by.pad, None, rate, steps,
        lambda finished: (student_files(finished, store, taught_by), {}), len(batches), batches.size, options,
    )  # fmt: skip
    progress.stage("train without teacher")
    plain = dataclasses.replace(training, request=asked.beside("plain", "chat"))
    without = run(plain, section, store, progress, workers)
    store.fs.rm(without.plan.folder, recursive=True)
    counts["held_out_loss_without_teacher"] = round(without.figure("held_out_loss") or 0.0, 4)
    if written:
        progress.stage("the teacher writes")
        made = texts_by(taught_by, store, written, context, section.seed)
        counts["written_tokens"] = sum(map(len, made))
        more = {**sides, "train": sides["train"] + made}
        rows = Packed(arrays_of(more["train"]), model.context, section.batch_tokens, section.seed, taught_by.pad)
        training = dataclasses.replace(training, arrays=both_sides(more), rows=len(rows), rows_per_step=rows.size)
    return carry_out(training, section, store, progress, workers)


def documents_of(
    store: Store, dataset: Manifest, model: LanguageModel, held_out: float, context: int
) -> dict[str, list[list[int]]]:
    """Rows of at most ``context`` tokens of either side: documents between their begin and end tokens, cut.

    Raises:
        BadInputError: a side is empty.
    """
    tokenizer = model.tokenizer
    tokenizer.encode_special_tokens = True  # what looks like a control token in a document is text
    bos = tokenizer.token_to_id(BOS)
    begin = [] if bos is None else [bos]
    sides: dict[str, list[list[int]]] = {"train": [], "held_out": []}
    for read in read_documents(store, dataset, held_out):
        ids = [*begin, *tokenizer.encode(document_text(read.document), add_special_tokens=False).ids, model.eos]
        rows = sides["held_out" if read.held_out else "train"]
        if not read.held_out or sum(map(len, rows)) < HELD_OUT_TOKENS:
            rows += [ids[i : i + context] for i in range(0, len(ids), context) if len(ids) - i > 1]
    if not all(sides.values()):
        raise BadInputError(f"{dataset.name}@{dataset.version} leaves no document on one of the two sides")
    return sides


def arrays_of(rows: Sequence[Sequence[int]]) -> Arrays:
    """The arrays of ``Packed`` for texts that are learnt as a whole."""
    made = flat(rows)
    return {**made, "learn": np.ones(len(made["ids"]), dtype=np.int8)}


def both_sides(sides: dict[str, list[list[int]]]) -> Arrays:
    """The arrays of ``open_packed``."""
    return {f"{side}.{part}": array for side, rows in sides.items() for part, array in arrays_of(rows).items()}


def texts_by(model: LanguageModel, store: Store, count: int, context: int, seed: int) -> list[list[int]]:
    """Texts that a model writes from its begin token on, sampled as likely as it finds them (Kim and Rush 2016)."""
    from train_jobs.objectives.frozen import frozen_network

    network = frozen_network(model.model, store, store.artefact(model.manifest), weight_hashes(model.manifest))
    first = model.tokenizer.token_to_id(BOS)
    first = model.eos if first is None else first
    found: list[list[int]] = []
    while len(found) < count:
        size = min(WRITTEN_AT_ONCE, count - len(found))
        found += sampled(network, first, model.eos, size, context, seed + len(found))
    return found


def sampled(network: nn.Module, first: int, end: int, count: int, length: int, seed: int) -> list[list[int]]:
    """``count`` token lists that begin with ``first``, up to ``end`` or ``length`` tokens."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((count, 1), first)
    ended = torch.zeros(count, dtype=torch.bool)
    with torch.inference_mode():
        while ids.shape[1] < length and not ended.all():
            last = torch.arange(1, count + 1) * ids.shape[1] - 1
            chances = network(ids, last).softmax(dim=-1)
            drawn = torch.multinomial(chances, 1, generator=generator)
            ids = torch.cat([ids, drawn], dim=1)
            ended |= drawn[:, 0] == end
    rows = [[int(token) for token in row] for row in ids]
    return [row[: row.index(end, 1) + 1] if end in row[1:] else row for row in rows]


def student_files(finished: Finished, store: Store, teacher: LanguageModel) -> dict[str, bytes]:
    """The teacher's folder with the student's sizes and weights."""
    config = store.read_json(posixpath.join(store.artefact(teacher.manifest), "config.json"))
    bos = config.get("bos_token_id")
    changed = finished.plan.model.config(int(bos or 0), teacher.eos, teacher.pad)
    return files_of(finished, store, teacher, {"config.json": as_json(changed)})
