"""What every recipe does once its data is prepared: reuse or carry out a run, and publish what came of it.

The artefact has the hashes and the provenance of a checkpoint (``publishing.artefact``); which files it holds is the
recipe's business.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.core.errors import PlinthError, UsageError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.train import ARCHITECTURE, LORA, PACE, PRIVACY, SIZE, STEPS, TrainSection
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.lineage.labels import labels_behind
from train_jobs.data import certificate
from train_jobs.data.batches import Arrays
from train_jobs.models.spec import ModelSpec
from train_jobs.publishing.artefact import ALIAS, METRICS, TRAINING, Provenance, summarise
from train_jobs.trainer.plan import RunPlan
from train_jobs.trainer.unfinished import CodeChange, settle

if TYPE_CHECKING:
    from torch import Tensor

    from train_jobs.launch import TrainingWorkers
    from train_jobs.trainer.checkpoint import TrainState

OPTION = "privacy"  # as ``trainer.privacy``, which imports torch
# The run keys of recipes: how steps are made and which rows are kept out are inside, the rate is the recipe's own.
KEY_INSIDE = (
    "train.seed",
    "train.held_out",
    *PRIVACY,
    *LORA,
    *(name for name in STEPS if name != "train.learning_rate"),
)
KEY_OUTSIDE = (
    *sections_but("train"), *SIZE, *ARCHITECTURE, *PACE, "train.learning_rate", "train.name", "train.vocab_size",
    "train.context_tokens", "train.examples",
)  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """A run that reached its end: its plan, the weights by the network's names, its books, and the files that tell how
    it went (metrics.jsonl, training.json, order.json), which every artefact holds."""

    plan: RunPlan
    weights: dict[str, Tensor]
    state: TrainState
    books: dict[str, bytes]

    def figure(self, name: str, first: bool = False) -> float | None:
        """The last (or first) value of a figure that the held-out side was measured with."""
        found = [row[name] for row in self.state.rows if row.get(name) is not None]
        return float(found[0 if first else -1]) if found else None


# The files of the artefact, and what is counted beside the usual.
Publish = Callable[[Finished], tuple[dict[str, bytes], dict[str, Any]]]


@dataclass(frozen=True)
class Request:
    """What somebody wants trained, which is known before its data is prepared.

    Attributes:
        objective: its name in ``objectives.protocol``.
        kind, name: of the artefact; key: of the run.
        inputs: versions of what goes in; settings: the configuration that decides the result.
        code_change: what to do with a run that earlier code began (``unfinished.settle``).
        part: which of a recipe's runs; empty: the one whose result is published.
    """

    objective: str
    kind: str
    name: str
    key: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    code_change: CodeChange = None
    part: str = ""

    def beside(self, part: str, objective: str = "") -> Request:
        """Another run of the same recipe, whose result is compared and thrown away."""
        return dataclasses.replace(self, key=f"{self.key}-{part}", part=part, objective=objective or self.objective)

    def settle(self, store: Store) -> None:
        """Decide about what earlier code began of this run.

        Raises:
            UsageError: there is some, and ``code_change`` says to ask.
        """
        known = {**self.settings, "name": self.name, "part": self.part}
        settle(store, self.objective, self.key, self.inputs, known, self.code_change)


@dataclass(frozen=True)
class Training:
    """A run to be carried out.

    Attributes:
        request: what was asked for; options: what the objective wants to know.
        counts: what the preparation counted.
        model: what is trained; arrays: what it is trained on; pad: the id of padding.
        initial: the weights it starts from by the network's names, None for random ones.
        rate: peak of the learning rate; steps: how many.
        publish: makes the artefact's files.
        base: the published model whose weights it starts from, instead of ``initial``.
        rows, rows_per_step: how many there are, and a step takes.
        protects: whether a row can be trained on privately.
    """

    request: Request
    counts: dict[str, Any]
    model: ModelSpec
    arrays: Arrays
    pad: int
    initial: dict[str, Tensor] | None
    rate: float
    steps: int
    publish: Publish
    rows: int
    rows_per_step: int
    options: dict[str, Any] = field(default_factory=dict)
    base: Manifest | None = None
    protects: bool = False


def request(
    key: RunKey, objective: str, kind: str, name: str, inputs: dict[str, str], section: TrainSection,
    code_change: CodeChange, **chosen: float,
) -> Request:  # fmt: skip
    """What a recipe was asked for; ``chosen`` are its own settings."""
    settings = {**key.settings(section), **chosen}
    hashed = key(inputs=inputs, config=settings, name=name)
    return Request(objective, kind, name, hashed, inputs, settings, code_change)


def begin(store: Store, asked: Request) -> Manifest | None:
    """What an identical finished run published, if it is still there; else the run begins.

    Raises:
        UsageError: as ``Request.settle``.
    """
    if (found := _reused(store, asked)) is None:
        asked.settle(store)
    return found


def _reused(store: Store, asked: Request) -> Manifest | None:
    found = store.find_run(asked.key)
    if found is not None:
        log_event("train", "run_reused", name=found.name, version=found.version, run_key=asked.key)
        store.move_alias(found.kind, found.name, ALIAS, found.version, why=f"run {asked.key}")
    return found


def carry_out(
    training: Training, section: TrainSection, store: Store, progress: Progress, workers: TrainingWorkers | None = None
) -> Manifest:
    """Train and publish. Needs a Ray connection where no ``workers`` are given.

    Raises:
        TrainingError: the loss is not a number, no memory, workers that kept dying, or cancelled.
        EnvironmentFaultError: the store cannot be written.
        KeyboardInterrupt: interrupted; a checkpoint was written, the same call goes on from there.
    """
    if workers is None:
        from train_jobs import fit  # imports ray

        with fit.Workers(section, store) as own:
            return carry_out(training, section, store, progress, own)
    asked = training.request
    with store.locked("training", f"{asked.objective}-{asked.key}"):  # two would remove each other's checkpoints
        return _reused(store, asked) or _trained(training, section, store, progress, workers)


def _trained(
    training: Training, section: TrainSection, store: Store, progress: Progress, workers: TrainingWorkers
) -> Manifest:
    training = private(training, section, store, progress, workers) if section.dp_epsilon else training
    asked = training.request
    finished = run(training, section, store, progress, workers)
    progress.stage("publish")
    files, counts = training.publish(finished)
    folder = posixpath.join(finished.plan.folder, "artefact")
    if store.exists(folder):
        store.fs.rm(folder, recursive=True)
    for name, body in (files | finished.books).items():
        store.write(posixpath.join(folder, name), body)
    manifest = store.publish(
        asked.kind, asked.name, folder, run_key=asked.key, inputs=asked.inputs, config=asked.settings,
        counts={**training.counts, **_measured(finished), **counts, **labels_behind(store, asked.inputs)},
    )  # fmt: skip
    store.fs.rm(finished.plan.folder, recursive=True)
    log_event("train", f"{asked.objective}_published", name=asked.name, version=manifest.version,
              counts=manifest.counts)  # fmt: skip
    store.move_alias(asked.kind, asked.name, ALIAS, manifest.version, why=f"run {asked.key}")
    return manifest


def run(
    training: Training, section: TrainSection, store: Store, progress: Progress, workers: TrainingWorkers
) -> Finished:
    """Carry a training out without publishing it; its staging folder is left.

    Raises:
        PlinthError: the run's last checkpoint is damaged or not its end; what ``carry_out`` raises.
        UsageError: as ``Request.settle``.
    """
    from train_jobs.trainer import checkpoint
    from train_jobs.trainer.initial import whole_weights

    asked = training.request
    if asked.part:  # ``begin`` has settled the others
        asked.settle(store)
    plan = plan_of(training, section, store)
    log_event("train", "run_started", run=plan.run_id, stage=plan.stage, inputs=asked.inputs, steps=plan.steps)
    workers.carry_out(plan, progress)
    last = checkpoint.latest(store, plan.folder)
    if last is None or not last.state.finished:
        raise PlinthError(f"the last checkpoint of {plan.run_id} was damaged: run the same command again")
    if OPTION in training.options:  # losses on the rows that are protected are not published
        last.state.rows[:] = [{**row, "train_loss": None} for row in last.state.rows]
    rows = "".join(json.dumps(row) + "\n" for row in last.state.rows)
    made = Provenance(  # whose tokenizer no summary looks at
        asked.name, asked.key, training.base, asked.inputs, asked.settings, training.counts, [],  # type: ignore[arg-type]
    )  # fmt: skip
    summary = {**summarise(plan, made, last.state, workers.size), "objective": asked.objective}
    books = {METRICS: rows.encode(), TRAINING: json.dumps(summary, indent=1).encode()}
    if OPTION not in training.options:  # those of a private run are drawn by chance, and nobody is told which
        books |= certificate.files_of_rows(plan, last.state.step, training.rows, training.rows_per_step)
    return Finished(plan, whole_weights(plan, store, last), last.state, books)


def plan_of(training: Training, section: TrainSection, store: Store) -> RunPlan:
    """The plan of a training, with its data and first weights in place."""
    from safetensors.numpy import save
    from safetensors.torch import save as save_tensors

    asked = training.request
    folder = store.staging(asked.key)
    body = save(training.arrays)
    data = posixpath.join(folder, "data.safetensors")
    store.write(data, body)
    initial, files = "", {}
    if training.initial is not None:
        weights = save_tensors(training.initial, metadata={"format": "pt"})
        initial, files = posixpath.join(folder, "initial"), {"model.safetensors": hashlib.sha256(weights).hexdigest()}
        store.write(posixpath.join(initial, "model.safetensors"), weights)
    plan = RunPlan(
        stage=asked.objective, objective=asked.objective, run_id=f"{asked.objective}-{asked.key}",
        store=store.uri, folder=folder, data=data, data_sha256=hashlib.sha256(body).hexdigest(), initial=initial,
        initial_files=files, model=training.model, pad=training.pad, batch_tokens=section.batch_tokens,
        optimizer=section.optimizer, learning_rate=training.rate, seed=section.seed, steps=training.steps, passes=0,
        budget_s=0.0, started_at=time.time(), checkpoint_s=section.checkpoint_s, precision=section.precision,
        options=training.options, inputs=asked.inputs, **RunPlan.loop_settings(section),
    )  # fmt: skip
    return plan.starting_from(store, training.base) if training.base is not None else plan


def private(
    training: Training, section: TrainSection, store: Store, progress: Progress, workers: TrainingWorkers
) -> Training:
    """The same training with differential privacy, after one without, whose held-out loss tells what privacy costs.

    What is counted: epsilon, delta, noise, clip, and ``held_out_loss_without_privacy``, to two digits, of a model that
    is thrown away. That one figure depends on the rows and is not protected.

    Raises:
        UsageError: the recipe cannot, or no noise keeps what is wanted.
    """
    from train_jobs.trainer.privacy import COMPARED, Privacy

    if not training.protects:
        raise UsageError(f"train.dp_epsilon: {training.request.objective} cannot be trained privately; set it to 0")
    privacy = Privacy.for_run(
        section.dp_epsilon, section.dp_delta, section.dp_clip, training.rows, training.rows_per_step, training.steps
    )
    told = {name: round(getattr(privacy, name), 6) for name in ("epsilon", "noise", "clip")} | {"delta": privacy.delta}
    log_event("train", "privacy", **told, steps=training.steps, rows=training.rows)
    progress.stage("train without privacy")
    open_one = dataclasses.replace(
        training, request=training.request.beside("open"),
        options={**training.options, "alone": True, COMPARED: True},
    )  # fmt: skip
    without = run(open_one, section, store, progress, workers)
    store.fs.rm(without.plan.folder, recursive=True)
    told["held_out_loss_without_privacy"] = round(without.figure("held_out_loss") or 0.0, 2)
    counts = {**training.counts, **told}
    return dataclasses.replace(training, counts=counts, options={**training.options, OPTION: privacy.to_dict()})


def steps_of(section: TrainSection, steps_per_epoch: int, epochs: float) -> int:
    """How many steps a recipe takes: ``train.steps`` where that is set, else those of its epochs."""
    return section.steps or max(1, round(epochs * steps_per_epoch))


def steps_over(section: TrainSection, rows: int, each: int, epochs: float) -> int:
    """``steps_of`` for so many rows of which a step takes ``each``."""
    return steps_of(section, -(-rows // min(each, rows)), epochs)


def _measured(finished: Finished) -> dict[str, Any]:
    """What the loop measured of the held-out side, before and after."""
    names = sorted({name for row in finished.state.rows for name in row if name.startswith("held_out_")})
    counts: dict[str, Any] = {"steps": finished.state.step, "tokens": finished.state.tokens}
    for name in names:
        before, after = finished.figure(name, first=True), finished.figure(name)
        if before is not None and after is not None:
            counts |= {f"{name}_at_start": round(before, 4), name: round(after, 4)}
    return counts
