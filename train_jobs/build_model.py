"""The whole life of a model, from a corpus to a tier: stages in order, each reused where what it rests on is the same.

tokenizer -> pretraining -> examples -> fine-tuning -> evaluation on held-out documents -> publication and registration
-> gate. The gate decides; the registry moves the aliases; a running service follows them.
"""

from __future__ import annotations

import json
import os
import posixpath
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from actors.policies.gate import GateResult, decide
from actors.registry.audits import numbers_of
from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, TooSlowError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.train import ARCHITECTURE, LORA, PACE, PRIVACY, QUESTIONS, SIZE, STEPS, VERDICT, TrainSection
from cluster.core.storage import Store
from train_jobs.trainer.forecast import Forecast, forecast, slowest_step
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from actors.spawn import RegistryClient
    from train_jobs.evaluation.generate import Generate, Said
    from train_jobs.fit import Workers
    from train_jobs.trainer.plan import RunPlan

MODEL_KEY = RunKey(
    "model", ("train_jobs.evaluation.held_out", "train_jobs.evaluation.generate", "train_jobs.publishing.publish"),
    inside=("train.name", "train.context_tokens", "answer.*", *QUESTIONS),
    outside=(
        *sections_but("train", "gate", "answer"), *VERDICT, *SIZE, *ARCHITECTURE, *LORA, *STEPS, *PACE, *PRIVACY,
        "train.vocab_size", "train.seed",
        "train.examples", "train.held_out",
    ),
)  # fmt: skip
GATE_KEY = RunKey("gate", ("actors.policies.gate",), inside=("gate.*",), outside=sections_but("gate"))
SMALLEST_BUDGET_S = 20.0


class StageRunner(Progress, Protocol):
    """A progress that also times whole stages (``cluster.cli.output.Stages``)."""

    def run(self, name: str) -> AbstractContextManager[None]:
        """Time a whole stage, which lasts as long as the ``with`` block."""
        ...

    def note(self, text: str) -> None:
        """Say in a few words what came of the stage, for its line in the output."""
        ...


class Untimed:
    """Whole stages told to a ``Progress`` that knows none."""

    def __init__(self, progress: Progress) -> None:
        self.stage, self.advance = progress.stage, progress.advance
        self.counts, self.waits = progress.counts, progress.waits

    @contextmanager
    def run(self, name: str) -> Iterator[None]:
        self.stage(name)
        yield

    def note(self, text: str) -> None:
        """Nobody reads it."""


@dataclass(frozen=True)
class BuiltModel:
    """A registered model and what the gate said about it.

    Attributes:
        model: its manifest.
        judged: the manifest of the gate's report.
        gate: the decision.
        report: the held-out evaluation (``HeldOutReport.to_dict()``).
    """

    model: Manifest
    judged: Manifest
    gate: GateResult
    report: dict[str, Any]


def build_model(
    config: PlinthConfig,
    store: Store,
    dataset: Manifest,
    index: Manifest,
    stages: StageRunner,
    seconds: float | None = None,
    code_change: CodeChange = None,
) -> BuiltModel:
    """Train, evaluate, publish and judge a model; ray must be connected.

    The first seconds of pretraining measure this machine: where fine-tuning could not reach ``train.min_steps``,
    nothing more is trained and no examples are made.

    Args:
        seconds: budget of pretraining and fine-tuning together; None takes ``train.minutes``.
        code_change: what to do with stages that earlier code began (``unfinished.settle``).

    Raises:
        BadInputError: too few documents.
        TooSlowError: the time is not enough for a model; the message says how many minutes would be.
        TrainingError: a run stopped without a model; what served before still serves.
        EnvironmentFaultError: storage full.
    """
    from train_jobs.data.tokenizer import train_tokenizer
    from train_jobs.launch import finetune, pretrain
    from train_jobs.make_examples import make_examples

    section = config.train
    budget = section.minutes * 60 if seconds is None else max(seconds, 2 * SMALLEST_BUDGET_S)
    share = budget * section.pretrain_share
    with WorkersOnDemand(config, store) as workers:
        with stages.run("train the tokenizer"):
            tokenizer = train_tokenizer(config, store, dataset, stages)
        with stages.run("pretrain the model"):
            began, floor = time.monotonic(), slowest_step(budget - share, section)
            with _saying_what_is_needed(budget - share, section):
                base = pretrain(config, store, dataset, tokenizer, stages, share, workers, floor, code_change)
            # A reused base leaves its time to fine-tuning; one that took longer, on a busy machine, takes none from it.
            rest = max(budget - share, budget - (time.monotonic() - began), SMALLEST_BUDGET_S)
            stages.note(_trained(base))
        with stages.run("make examples"):
            examples = make_examples(
                config, store, dataset, index, tokenizer, stages, lambda: _check_steps(base, rest, section)
            )
            stages.note(_counted(examples))
        with stages.run("fine-tune the model"):
            checkpoint = finetune(config, store, base, examples, stages, rest, workers, code_change)
            stages.note(_trained(checkpoint))
    with stages.run("evaluate and publish the model"):
        model = _publish(config, store, checkpoint, base, examples, dataset, index, tokenizer, stages)
        stages.note(f"{model.name}@{model.version}")
    with stages.run("gate"):
        built = judge_again(config, store, model)
        stages.note("passed" if built.gate.passed else "refused")
    return built


@contextmanager
def _saying_what_is_needed(seconds: float, section: TrainSection) -> Iterator[None]:
    """Turns a step that takes too long into what that means for the model."""
    try:
        yield
    except TooSlowError as error:
        raise _too_slow(forecast(error.extras["step_s"], seconds, section)) from error


def _check_steps(base: Manifest, seconds: float, section: TrainSection) -> None:
    """Refuse to go on where a base trained earlier says that the time is too short for fine-tuning."""
    step_s = base.counts.get("seconds_per_step")
    by_clock = not (section.steps or section.tokens or section.epochs or section.flops)
    if step_s and by_clock and not (ahead := forecast(step_s, seconds, section)).enough:
        raise _too_slow(ahead)


def _too_slow(ahead: Forecast) -> TooSlowError:
    return TooSlowError(ahead.reason, steps=ahead.steps, wanted=ahead.wanted, minutes=ahead.minutes)


class WorkersOnDemand:
    """One group of training workers for both stages, started by the first that has something to train.

    Starting a group costs 10 to 20 seconds; a second run that finds everything finished starts none.
    """

    def __init__(self, config: PlinthConfig, store: Store) -> None:
        self._config, self._store = config, store
        self._held = ExitStack()
        self._group: Workers | None = None

    def __enter__(self) -> WorkersOnDemand:
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def _started(self) -> Workers:
        from train_jobs.fit import Workers

        if self._group is None:
            self._group = self._held.enter_context(Workers(self._config.train, self._store))
        return self._group

    @property
    def size(self) -> int:
        """How many workers the group has. Asking starts it."""
        return self._started().size

    def carry_out(self, plan: RunPlan, progress: Progress) -> None:
        """As ``fit.Workers.carry_out``."""
        self._started().carry_out(plan, progress)


def _publish(
    config: PlinthConfig,
    store: Store,
    checkpoint: Manifest,
    base: Manifest,
    examples: Manifest,
    dataset: Manifest,
    index: Manifest,
    tokenizer: Manifest,
    progress: Progress,
) -> Manifest:
    """Evaluate the checkpoint on held-out documents and publish it as a model, or find that done."""
    from actors import spawn
    from train_jobs.publishing.publish import enrol, publish_model

    inputs = {
        "checkpoint": _name(checkpoint), "base": _name(base), "tokenizer": _name(tokenizer),
        "examples": _name(examples), "dataset": _name(dataset), "index": _name(index),
    }  # fmt: skip
    parts = {"train": config.train, "answer": config.answer, "gate": config.gate}
    run_key = MODEL_KEY(inputs=inputs, config={name: MODEL_KEY.settings(section) for name, section in parts.items()})
    registry = spawn.registry(store, Home.from_env())
    if found := store.find_run(run_key):
        return enrol(store, registry, found)  # a kill may have come between publishing and registering
    folder = store.fetch(checkpoint, Home.from_env().root / "cache")
    report = _evaluate(config, store, folder, examples, progress)
    facts = json.loads((folder / "training.json").read_text())
    return publish_model(
        config, store, config.train.name, folder,
        {
            "format": "points",
            "context_tokens": config.train.context_tokens,
            "license": "the licences of the corpus",
            "knowledge_cutoff": dataset.created_at,
            "provenance": inputs,
        },
        {"training": facts, "held_out": report},
        progress, run_key=run_key, registry=registry,
    )  # fmt: skip


def _evaluate(
    config: PlinthConfig, store: Store, folder: Path, examples: Manifest, progress: Progress
) -> dict[str, Any]:
    from train_jobs.evaluation.generate import load_generator
    from train_jobs.evaluation.held_out import evaluate, load_rows

    rows = load_rows(store, examples, config.gate)
    progress.stage("held-out questions", len(rows), "questions")
    generate = load_generator(folder, threads=len(os.sched_getaffinity(0)))
    return evaluate(rows, _reporting(generate, progress), config.gate).to_dict()


def _reporting(generate: Generate, progress: Progress) -> Generate:
    def reporting(prompts: list[str]) -> list[Said]:
        said = generate(prompts)
        progress.advance(len(prompts))
        return said

    return reporting


def judge_again(config: PlinthConfig, store: Store, model: Manifest) -> BuiltModel:
    """Judge a published model by the gate as it is configured now, on the evaluation it was published with.

    The decision is written down and acted on: the registry promotes the model, or leaves it reachable by name only.

    Raises:
        BadInputError: the model was added ready-made, so there is no evaluation on held-out documents.
    """
    from actors import spawn

    report = store.read_json(posixpath.join(store.artefact(model), "metrics.json")).get("held_out")
    index = model.inputs.get("index", "")
    if not report or not index:
        raise BadInputError(
            f"{_name(model)} was not trained here: it has no evaluation on held-out documents that a gate could judge"
        )
    return judge(config, store, model, index, report, spawn.registry(store, Home.from_env()))


def judge(
    config: PlinthConfig,
    store: Store,
    model: Manifest,
    index: str,
    report: dict[str, Any],
    registry: RegistryClient | None = None,
) -> BuiltModel:
    """Decide by the gate on an evaluation and the newest audit, write the decision down, and act: promote, or leave
    the model reachable by name only.

    Args:
        index: ``NAME@VERSION`` of the index that the questions were searched in.
        report: ``HeldOutReport.to_dict()``.
        registry: the registry actor's client; without one the store's registry is written directly.
    """
    report = {**report, "memorization": numbers_of(store, model)}
    gate = decide(report, config.gate)
    inputs = {"model": _name(model), "index": index}
    settings = GATE_KEY.settings(config.gate)
    run_key = GATE_KEY(inputs=inputs, config=settings, report=report)
    found = store.find_run(run_key)
    if found is None:
        staging = store.staging(run_key)
        body = {**report, "decision": gate.to_dict(), "model": inputs["model"], "index": inputs["index"]}
        store.write(posixpath.join(staging, "report.json"), json.dumps(body, indent=1).encode())
        counts = {"passed": gate.passed, **{check.name: check.value for check in gate.checks}}
        found = store.publish(
            "gates", model.name, staging, run_key=run_key, inputs=inputs, config=settings, counts=counts
        )
    # Whoever serves this version finds the newest report by an alias named after it.
    store.move_alias("gates", model.name, model.version, found.version, why=gate.reason)
    writer = registry or Registry(store)
    act = writer.promote if gate.passed else writer.refuse
    act(model.name, model.version, gate, _name(found))
    return BuiltModel(model, found, gate, report)


def _name(manifest: Manifest) -> str:
    return f"{manifest.name}@{manifest.version}"


def _trained(manifest: Manifest) -> str:
    counts = manifest.counts
    loss = counts.get("held_out_loss")
    return f"{counts.get('steps', 0):,} steps" + (f", held-out loss {loss:.2f}" if isinstance(loss, float) else "")


def _counted(manifest: Manifest) -> str:
    return f"{manifest.counts.get('train', 0):,} for training, {manifest.counts.get('held_out', 0):,} held out"
