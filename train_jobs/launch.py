"""The training stages: reuse or resume a run, prepare its data, train on the cluster, publish the checkpoint.

A run's folder in ``staging/<run key>`` holds its data and its checkpoints until the checkpoint is published. The key
hashes inputs, configuration and source files, not the seconds a run may take. Workers reach the store by path: on
several machines it must be on a shared filesystem.
"""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, IncompatibleError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.train import ARCHITECTURE, LORA, PACE, SIZE, STEPS, TrainSection
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.governance.policies import check_use
from train_jobs.data.batches import Arrays, check_documents, encode_examples, read_examples, token_streams
from train_jobs.data.tokenizer import check_same_tokenizer, load_tokenizer, special_ids
from train_jobs.models.hugging_face import HuggingFaceSpec, source_settings
from train_jobs.models.lora import adapted
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec, ModelSpec, spec_of_config
from train_jobs.publishing import artefact
from train_jobs.publishing.artefact import ALIAS, KIND, Provenance
from train_jobs.trainer.plan import RunPlan, Stage


class TrainingWorkers(Protocol):
    """What carries out plans: ``fit.Workers``, or what starts them when there is something to train."""

    @property
    def size(self) -> int:
        """How many workers train together; a group on demand starts when it is asked."""
        ...

    def carry_out(self, plan: RunPlan, progress: Progress) -> None:
        """Train by a plan and wait for its end; the checkpoints are in the plan's folder.

        Raises:
            TrainingError: the run failed, or was cancelled.
            TooSlowError: its steps take longer than the plan allows.
            PlinthError: as a worker raised it.
            KeyboardInterrupt: after the workers wrote a checkpoint.
        """
        ...


# Of train.learning_rate. The examples are few and alike: at twice the rate or in eight passes a model learns them by
# heart, and abstains on a fifth of what it could answer.
FINETUNE_RATE, FINETUNE_PASSES = 0.25, 4
OBJECTIVE: dict[Stage, str] = {"pretrain": "next_token", "finetune": "completion"}
# The tokenizer and the examples are inputs.
_OUTSIDE = (*sections_but("train"), *PACE, *ARCHITECTURE, "train.vocab_size", "train.examples")
_MODEL = (*SIZE, "train.context_tokens", "train.held_out")
PRETRAIN = RunKey(
    "pretrain", (__name__,), inside=("train.name", "train.seed", *STEPS, *_MODEL), outside=(*_OUTSIDE, *LORA)
)  # fmt: skip
FINETUNE = RunKey(
    "finetune", (__name__,), inside=("train.name", "train.seed", *STEPS, *LORA), outside=(*_MODEL, *_OUTSIDE)
)  # fmt: skip


def pretrain(
    config: PlinthConfig, store: Store, dataset: Manifest, tokenizer: Manifest, progress: Progress,
    seconds: float | None = None, workers: TrainingWorkers | None = None, slowest_step_s: float = 0.0,
) -> Manifest:  # fmt: skip
    """Train a model from random weights on a dataset and publish ``checkpoints/<train.name>-base``.

    Needs a Ray connection. An identical finished run is reused, an unfinished one is continued; ``seconds`` (budget of
    the whole stage, default from ``train.minutes`` and ``train.pretrain_share``) does not tell runs apart.
    ``workers`` is a running group to train on; without one a group is started and ended. ``slowest_step_s`` is the
    plan's.

    Raises:
        TooSlowError: a step takes longer than ``slowest_step_s``.
        BadInputError: the dataset is too small, or damaged.
        PolicyRefusedError: the dataset's source does not allow pretraining.
        IncompatibleError: the tokenizer is not one of ours.
        TrainingError: the loss is not a number, no memory, workers that kept dying, or cancelled.
        KeyboardInterrupt: interrupted; a checkpoint was written, the same call goes on from there.
    """
    started, section = time.time(), config.train
    check_use(dataset, "pretraining", config.data)
    check_documents(section, dataset)
    coder = load_tokenizer(store, tokenizer)
    spec = _architecture(section, coder.get_vocab_size())
    settings = PRETRAIN.settings(section)
    inputs = {"dataset": _reference(dataset), "tokenizer": _reference(tokenizer)}
    name = f"{section.name}-base"
    # The sizes stand in the settings; another architecture stands in the key by what it is, not by where it lies.
    key = PRETRAIN(inputs=inputs, config=settings, **({"model": spec.to_dict()} if section.model else {}))
    if (found := _reused(store, key)) is not None:
        return found

    def arrays() -> tuple[Arrays, dict[str, Any]]:
        progress.stage("tokenise")
        bos, eos, _ = special_ids(coder)
        streams = token_streams(store, dataset, coder, section, bos, eos)
        return streams, {f"{side}_tokens": len(stream) for side, stream in streams.items()}

    budget = section.minutes * 60 * section.pretrain_share if seconds is None else seconds
    run = _Run("pretrain", name, key, inputs, settings, tokenizer, None, spec, special_ids(coder),
               section.learning_rate, 0, budget, started, slowest_step_s)  # fmt: skip
    return _carry_out(run, section, store, arrays, progress, workers)


def finetune(
    config: PlinthConfig, store: Store, base: Manifest, examples: Manifest, progress: Progress,
    seconds: float | None = None, workers: TrainingWorkers | None = None,
) -> Manifest:  # fmt: skip
    """Fine-tune a pretrained checkpoint on examples and publish ``checkpoints/<train.name>``.

    Only the tokens of the completions are learnt; examples longer than the context are left out and counted. For the
    rest as ``pretrain``.

    Raises:
        BadInputError: an artefact is damaged or gone, or no example fits the context.
        PolicyRefusedError: the source of the examples' dataset does not allow fine-tuning.
        IncompatibleError: the examples were made for another tokenizer than the base was trained with.
        TrainingError: as for ``pretrain``.
    """
    started, section = time.time(), config.train
    if reference := examples.inputs.get("dataset"):
        name, _, version = reference.partition("@")
        check_use(store.manifest("datasets", name, version), "fine-tuning", config.data)
    check_same_tokenizer(store, examples, base)
    coder = load_tokenizer(store, base)
    spec: ModelSpec = spec_of_config(store.read_json(posixpath.join(store.artefact(base), "config.json")))
    _check_vocabulary(spec, coder.get_vocab_size(), base)
    if section.lora_rank:
        spec = adapted(spec, base, section.lora_rank, section.lora_alpha, section.lora_dropout, section.lora_targets,
                       section.seed)  # fmt: skip
    settings = FINETUNE.settings(section)
    inputs = {"base": _reference(base), "examples": _reference(examples)}
    inputs |= {name: value for name, value in base.inputs.items() if name in ("dataset", "tokenizer")}
    key = FINETUNE(inputs=inputs, config=settings)
    if (found := _reused(store, key)) is not None:
        return found

    def arrays() -> tuple[Arrays, dict[str, Any]]:
        progress.stage("tokenise")
        flat: Arrays = {}
        counts: dict[str, Any] = {}
        for side, rows in read_examples(store, examples).items():
            encoded, dropped = encode_examples(rows, coder, spec.context)
            flat |= {f"{side}.{name}": array for name, array in encoded.items()}
            counts |= {f"{side}_examples": len(encoded["lengths"]), f"{side}_too_long": dropped}
        if not counts["train_examples"] or not counts["held_out_examples"]:
            raise BadInputError(f"no example of {_reference(examples)} fits a context of {spec.context} tokens")
        return flat, counts

    budget = section.minutes * 60 * (1 - section.pretrain_share) if seconds is None else seconds
    rate = section.learning_rate * FINETUNE_RATE
    run = _Run("finetune", section.name, key, inputs, settings, base, base, spec, special_ids(coder), rate,
               FINETUNE_PASSES, budget, started)  # fmt: skip
    return _carry_out(run, section, store, arrays, progress, workers)


@dataclass(frozen=True)
class _Run:
    """One stage to be carried out. ``tokenizer`` is the artefact its tokenizer files come from; ``base`` the checkpoint
    its weights come from, None for random ones; ``special`` the ids of begin, end and padding."""

    stage: Stage
    name: str
    key: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    tokenizer: Manifest
    base: Manifest | None
    spec: ModelSpec
    special: tuple[int, int, int]
    rate: float
    passes: int
    budget_s: float
    started_at: float
    slowest_step_s: float = 0.0


def _carry_out(
    run: _Run, section: TrainSection, store: Store, arrays: Callable[[], tuple[Arrays, dict[str, Any]]],
    progress: Progress, workers: TrainingWorkers | None,
) -> Manifest:  # fmt: skip
    if workers is None:
        from train_jobs import fit  # imports ray

        with fit.Workers(section, store) as own:  # they start while the data is prepared
            return _carry_out(run, section, store, arrays, progress, own)
    from safetensors.numpy import save

    folder = store.staging(run.key)
    size = workers.size  # a group on demand starts here, while the data is prepared
    found, counts = arrays()
    body = save(found)
    data = posixpath.join(folder, "data.safetensors")
    store.write(data, body)
    plan = RunPlan(
        stage=run.stage, objective=OBJECTIVE[run.stage], run_id=f"{run.stage}-{run.key}", store=store.uri,
        folder=folder, data=data,
        data_sha256=hashlib.sha256(body).hexdigest(), initial="", initial_files={}, model=run.spec,
        pad=run.special[2], batch_tokens=section.batch_tokens, optimizer=section.optimizer,
        learning_rate=run.rate, seed=section.seed,
        steps=section.steps, passes=run.passes, budget_s=run.budget_s, started_at=run.started_at,
        checkpoint_s=section.checkpoint_s, precision=section.precision,
        slowest_step_s=run.slowest_step_s, inputs=run.inputs,
    )  # fmt: skip
    if run.base is not None:
        plan = plan.starting_from(store, run.base)
    log_event("train", "run_started", run=plan.run_id, stage=run.stage, inputs=run.inputs, budget_s=run.budget_s)
    workers.carry_out(plan, progress)
    progress.stage("publish")
    earlier = artefact.read_rows(store, run.base) if run.base is not None else []
    made = Provenance(run.name, run.key, run.tokenizer, run.inputs, run.settings, counts, earlier)
    manifest = artefact.publish(store, plan, made, size)
    log_event("train", "checkpoint_published", name=run.name, version=manifest.version, counts=manifest.counts)
    return _latest(store, manifest)


def _reused(store: Store, key: str) -> Manifest | None:
    found = store.find_run(key)
    if found is None:
        return None
    log_event("train", "run_reused", name=found.name, version=found.version, run_key=key)
    return _latest(store, found)


def _latest(store: Store, manifest: Manifest) -> Manifest:
    store.move_alias(KIND, manifest.name, ALIAS, manifest.version, why=f"run {manifest.run_key}")
    return manifest


def _reference(manifest: Manifest) -> str:
    return f"{manifest.name}@{manifest.version}"


def _architecture(section: TrainSection, vocab: int) -> ModelSpec:
    """What is pretrained: the own Llama in the sizes of the configuration, or the architecture that it names."""
    if not section.model:
        return LlamaSpec(Shape.of(section, vocab))
    settings = source_settings(section.model, Home.from_env().root / "cache")
    return HuggingFaceSpec.of(settings, vocab=vocab, context=section.context_tokens)


def _check_vocabulary(spec: ModelSpec, tokens: int, base: Manifest) -> None:
    """Others' models may have spare rows of embeddings; none may have too few."""
    if tokens > spec.vocab or (spec.kind == LlamaSpec.kind and tokens != spec.vocab):
        raise IncompatibleError(f"{_reference(base)} has {spec.vocab} embeddings and its tokenizer {tokens} tokens")
