"""The training stages: reuse or resume a run, prepare its data, train on the cluster, publish the checkpoint.

A run's folder in ``staging/<run key>`` holds its data and its checkpoints until the checkpoint is published. The key
hashes inputs, configuration and source files, not the seconds a run may take. Workers reach the store by path: on
several machines it must be on a shared filesystem.
"""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, IncompatibleError, UsageError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.train import ARCHITECTURE, LORA, PACE, PRIVACY, SIZE, STEPS, TrainSection
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.corpus.token_index import SIDES, read_index
from data_jobs.corpus.tokens import Encoder, Entries, Shard, find_tokens, make_encoder, tokenise
from data_jobs.governance.policies import check_use
from train_jobs.data.batches import Arrays, check_documents, encode_examples, read_examples
from train_jobs.data.corpora import Entry, Ingredient, check_usable, options_of
from train_jobs.data.order import Order, Share
from train_jobs.data.packing import windows_of
from train_jobs.data.tokenizer import FILES as TOKENIZER_FILES
from train_jobs.data.tokenizer import check_same_tokenizer, load_tokenizer, special_ids
from train_jobs.models.hugging_face import HuggingFaceSpec, source_settings
from train_jobs.models.lora import adapted
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec, ModelSpec, spec_of_config
from train_jobs.publishing import artefact
from train_jobs.publishing.artefact import ALIAS, KIND, Provenance
from train_jobs.trainer.plan import RunPlan, Stage
from train_jobs.trainer.unfinished import CodeChange, settle


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
_OUTSIDE = (*sections_but("train"), *PACE, *PRIVACY, *ARCHITECTURE, "train.vocab_size", "train.examples")
_MODEL = (*SIZE, "train.context_tokens", "train.held_out")
PRETRAIN = RunKey(
    "pretrain", (__name__,), inside=("train.name", "train.seed", *STEPS, *_MODEL), outside=(*_OUTSIDE, *LORA)
)  # fmt: skip
FINETUNE = RunKey(
    "finetune", (__name__,), inside=("train.name", "train.seed", *STEPS, *LORA), outside=(*_MODEL, *_OUTSIDE)
)  # fmt: skip


def pretrain(
    config: PlinthConfig, store: Store, datasets: Manifest | Sequence[Ingredient], tokenizer: Manifest,
    progress: Progress, seconds: float | None = None, workers: TrainingWorkers | None = None,
    slowest_step_s: float = 0.0, code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Train a model from random weights on a dataset, or a mixture, and publish ``checkpoints/<train.name>-base``.

    Needs a Ray connection. What the workers read are the tokens artefacts of dataset and tokenizer; where they are
    missing they are made first. An identical finished run is reused, an unfinished one is continued; ``seconds``
    (budget of the whole stage, default from ``train.minutes`` and ``train.pretrain_share``) does not tell runs apart.
    ``workers`` is a running group to train on; without one a group is started and ended. ``slowest_step_s`` is the
    plan's. ``code_change`` is what to do with a run that earlier code began (``unfinished.settle``).

    Raises:
        TooSlowError: a step takes longer than ``slowest_step_s``.
        BadInputError: a dataset is too small, or damaged.
        UsageError: more steps are wanted than the mixture's limits of epochs allow.
        PolicyRefusedError: a dataset's source does not allow pretraining.
        IncompatibleError: the tokenizer is not one of ours.
        IntegrityError: a dataset or its tokens are damaged.
        TrainingError: the loss is not a number, no memory, workers that kept dying, or cancelled.
        KeyboardInterrupt: interrupted; a checkpoint was written, the same call goes on from there.
    """
    started, section = time.time(), config.train
    _refuse_privacy(section)
    mixture = [Ingredient(datasets)] if isinstance(datasets, Manifest) else list(datasets)
    for one in mixture:
        check_use(one.dataset, "pretraining", config.data)
    check_documents(section, *(one.dataset for one in mixture), labelled=config.data.train_labelled)
    coder = load_tokenizer(store, tokenizer)
    spec = architecture(section, coder.get_vocab_size())
    folder = store.artefact(tokenizer)
    files = (store.read(posixpath.join(folder, name)) for name in TOKENIZER_FILES)
    begin, end, _ = special = special_ids(coder)
    encoder = replace(make_encoder(_reference(tokenizer), *files), begin=begin, end=end)
    found = [find_tokens(store, one.dataset, encoder, section.held_out) for one in mixture]
    if all(found):  # else nothing was trained on them yet
        run = _pretraining(config, store, mixture, [made for made in found if made], tokenizer, encoder, spec, special)
        if (finished := _reused(store, run.key)) is not None:
            return finished
        settle(store, PRETRAIN.stage, run.key, run.inputs, {**run.settings, "model": spec.to_dict()}, code_change)
    with _running(workers, section, store) as group:  # they start while the data is prepared
        tokens = [tokenise(store, one.dataset, encoder, section.held_out, progress, _on_cluster) for one in mixture]
        run = _pretraining(config, store, mixture, tokens, tokenizer, encoder, spec, special)
        if (finished := _reused(store, run.key)) is not None:
            return finished
        settle(store, PRETRAIN.stage, run.key, run.inputs, {**run.settings, "model": spec.to_dict()}, code_change)
        budget = section.minutes * 60 * section.pretrain_share if seconds is None else seconds
        run = replace(run, budget_s=budget, started_at=started, slowest_step_s=slowest_step_s)
        return _carry_out(run, section, store, progress, group)


def _pretraining(
    config: PlinthConfig, store: Store, mixture: Sequence[Ingredient], tokens: Sequence[Manifest], tokenizer: Manifest,
    encoder: Encoder, spec: ModelSpec, special: tuple[int, int, int],
) -> _Run:  # fmt: skip
    """The run over these tokens, one artefact for each ingredient; its budget is still to be said.

    Raises:
        PlinthError: as ``pretrain``.
    """
    section = config.train
    entries = [
        Entry(_reference(one.dataset), _reference(made), one.weight, one.epochs)
        for one, made in zip(mixture, tokens, strict=True)
    ]
    indexes = [read_index(store, made, encoder.sha256) for made in tokens]
    for index, entry in zip(indexes, entries, strict=True):
        check_usable(index, entry, spec.context, spec.vocab)
    counts = {f"{side}_tokens": sum(index.tokens(side) for index in indexes) for side in SIDES}
    each = sum(index.text_bytes("train") for index in indexes) / max(1, counts["train_tokens"])
    windows = [windows_of(index.tokens("train"), spec.context) for index in indexes]
    shares = [Share(count, one.weight, one.epochs) for count, one in zip(windows, mixture, strict=True)]
    last = -(-Order(shares, section.seed).samples // max(1, section.batch_tokens // spec.context))
    if 0 < last < section.steps:
        raise UsageError(
            f"train.steps={section.steps} are more than the {last} steps after which every dataset has reached its "
            "limit of epochs: lower train.steps, or raise --max-epochs"
        )
    inputs: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        inputs |= {name if number == 1 else f"{name}_{number}": getattr(entry, name) for name in ("dataset", "tokens")}
    inputs["tokenizer"] = _reference(tokenizer)
    settings = PRETRAIN.settings(section)
    if len(entries) > 1 or entries[0].epochs:
        settings["mixture"] = [{"weight": entry.weight, "epochs": entry.epochs} for entry in entries]
    # The sizes stand in the settings; another architecture stands in the key by what it is, not by where it lies.
    key = PRETRAIN(inputs=inputs, config=settings, **({"model": spec.to_dict()} if section.model else {}))
    return _Run(
        "pretrain", f"{section.name}-base", key, inputs, settings, tokenizer, None, spec, special,
        section.learning_rate, counts=counts, most_steps=last,
        options=options_of(entries, encoder.sha256, section.packing) | {"bytes_per_token": each},
    )  # fmt: skip


def _on_cluster(shards: list[Shard], encoder: Encoder, progress: Progress) -> Iterator[tuple[int, Entries]]:
    from data_jobs.make_tokens import on_cluster  # imports ray; a small dataset needs it only to train

    return on_cluster(shards, encoder, progress)


def finetune(
    config: PlinthConfig, store: Store, base: Manifest, examples: Manifest, progress: Progress,
    seconds: float | None = None, workers: TrainingWorkers | None = None, code_change: CodeChange = None,
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
    _refuse_privacy(section)
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
    inputs |= {name: value for name, value in base.inputs.items() if name.startswith(("dataset", "tokenizer"))}
    key = FINETUNE(inputs=inputs, config=settings)
    if (found := _reused(store, key)) is not None:
        return found
    settle(store, FINETUNE.stage, key, inputs, settings, code_change)

    with _running(workers, section, store) as group:  # they start while the data is prepared
        progress.stage("tokenise")
        flat: Arrays = {}
        counts: dict[str, Any] = {}
        for side, rows in read_examples(store, examples).items():
            encoded, dropped = encode_examples(rows, coder, spec.context)
            flat |= {f"{side}.{name}": array for name, array in encoded.items()}
            counts |= {f"{side}_examples": len(encoded["lengths"]), f"{side}_too_long": dropped}
        if not counts["train_examples"] or not counts["held_out_examples"]:
            raise BadInputError(f"no example of {_reference(examples)} fits a context of {spec.context} tokens")
        budget = section.minutes * 60 * (1 - section.pretrain_share) if seconds is None else seconds
        run = _Run(
            "finetune", section.name, key, inputs, settings, base, base, spec, special_ids(coder),
            section.learning_rate * FINETUNE_RATE,
            passes=FINETUNE_PASSES, budget_s=budget, started_at=started, arrays=flat, counts=counts,
        )  # fmt: skip
        return _carry_out(run, section, store, progress, group)


@dataclass(frozen=True)
class _Run:
    """One stage to be carried out. ``tokenizer`` is the artefact its tokenizer files come from; ``base`` the checkpoint
    its weights come from, None for random ones; ``special`` the ids of begin, end and padding. ``arrays`` is data that
    travels in a file, ``options`` the rest of what the objective is told; ``counts`` is what preparing it counted."""

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
    passes: int = 0
    most_steps: int = 0
    budget_s: float = 0.0
    started_at: float = 0.0
    slowest_step_s: float = 0.0
    arrays: Arrays = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def _running(
    workers: TrainingWorkers | None, section: TrainSection, store: Store
) -> Iterator[TrainingWorkers]:  # fmt: skip
    """The workers given, started if they start on demand, or a group for the length of the block."""
    if workers is not None:
        _ = workers.size
        yield workers
        return
    from train_jobs import fit  # imports ray

    with fit.Workers(section, store) as own:
        yield own


def _carry_out(
    run: _Run, section: TrainSection, store: Store, progress: Progress, workers: TrainingWorkers
) -> Manifest:  # fmt: skip
    run_id = f"{run.stage}-{run.key}"
    with store.locked("training", run_id):  # two of the same would remove each other's checkpoints
        return _reused(store, run.key) or _trained(run, run_id, section, store, progress, workers)


def _trained(
    run: _Run, run_id: str, section: TrainSection, store: Store, progress: Progress, workers: TrainingWorkers
) -> Manifest:  # fmt: skip
    folder = store.staging(run.key)
    data, body = "", b""
    if run.arrays:
        from safetensors.numpy import save

        data, body = posixpath.join(folder, "data.safetensors"), save(run.arrays)
        store.write(data, body)
    plan = RunPlan(
        stage=run.stage, objective=OBJECTIVE[run.stage], run_id=run_id, store=store.uri,
        folder=folder, data=data, data_sha256=hashlib.sha256(body).hexdigest(), initial="", initial_files={},
        model=run.spec, pad=run.special[2], batch_tokens=section.batch_tokens, optimizer=section.optimizer,
        learning_rate=run.rate, seed=section.seed, steps=section.steps, passes=run.passes, budget_s=run.budget_s,
        started_at=run.started_at, checkpoint_s=section.checkpoint_s, precision=section.precision,
        slowest_step_s=run.slowest_step_s, options=run.options, most_steps=run.most_steps, inputs=run.inputs,
        **RunPlan.loop_settings(section),
    )  # fmt: skip
    if run.base is not None:
        plan = plan.starting_from(store, run.base)
    log_event("train", "run_started", run=plan.run_id, stage=run.stage, inputs=run.inputs, budget_s=run.budget_s)
    workers.carry_out(plan, progress)
    progress.stage("publish")
    earlier = artefact.read_rows(store, run.base) if run.base is not None else []
    made = Provenance(run.name, run.key, run.tokenizer, run.inputs, run.settings, run.counts, earlier)
    manifest = artefact.publish(store, plan, made, workers.size)
    log_event("train", "checkpoint_published", name=run.name, version=manifest.version, counts=manifest.counts)
    return _latest(store, manifest)


def _refuse_privacy(section: TrainSection) -> None:
    if section.dp_epsilon:
        raise UsageError("train.dp_epsilon: this stage cannot be private; `plinth train chat` and `classifier` can")


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


def architecture(section: TrainSection, vocab: int) -> ModelSpec:
    """What is pretrained: the own Llama in the sizes of the configuration, or the architecture that it names."""
    if not section.model:
        return LlamaSpec(Shape.of(section, vocab))
    settings = source_settings(section.model, Home.from_env().root / "cache")
    return HuggingFaceSpec.of(settings, vocab=vocab, context=section.context_tokens)


def _check_vocabulary(spec: ModelSpec, tokens: int, base: Manifest) -> None:
    """Others' models may have spare rows of embeddings; none may have too few."""
    if tokens > spec.vocab or (spec.kind == LlamaSpec.kind and tokens != spec.vocab):
        raise IncompatibleError(f"{_reference(base)} has {spec.vocab} embeddings and its tokenizer {tokens} tokens")
