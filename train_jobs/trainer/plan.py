"""What one training run is told: plain values that travel to every worker."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from cluster.core.records import Manifest
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.models.spec import ModelSpec, spec_from
from train_jobs.models.weights import weight_hashes

Stage = str  # "pretrain", "finetune", or the objective of a recipe
LOOP = (
    "strategy", "zero_stage", "offload", "recompute", "compile", "micro_tokens", "weight_decay", "dropout", "schedule",
    "evaluate_steps", "patience", "tokens", "epochs", "flops", "money", "price_per_hour",
)  # fmt: skip


@dataclass(frozen=True)
class RunPlan:
    """One run of the loop.

    Attributes:
        stage: what the run is to those who read its books.
        objective: what is minimised, by its name in ``objectives.protocol``; options: its own settings, plain JSON.
        run_id: its name in ``training/``.
        store: URI of the store; folder: the run's staging folder in it.
        data: path of arrays (safetensors), empty where ``options`` name token shards; data_sha256: their hash.
        initial: folder of the weights to start from, empty for random ones; initial_files: their files, with sha256.
        model: what is trained.
        pad: id of the padding token.
        batch_tokens: tokens of one step, all workers together.
        optimizer: its name in ``optimizer.OPTIMIZERS``.
        learning_rate: its peak.
        steps: number of steps; 0 means by the clock.
        passes: by the clock, most passes over the data (0: no limit); ``loop.FEWEST_STEPS`` are taken in any case.
        most_steps: no more steps than this, whatever the budget (0: no limit): the data are used up then.
        budget_s: seconds of the whole stage, from started_at (seconds since the epoch); of its stepping those count in
            which the workers had processors (``schedule.counted_seconds``).
        checkpoint_s: seconds between checkpoints.
        precision: arithmetic; auto measures whether bf16 is faster here.
        inputs: the artefacts it is made from, by role, for its books.
        slowest_step_s: the run gives up in its first seconds where a step takes longer than this (counted seconds; 0:
            however long it takes).
        strategy: how the workers hold the network together (``distributed.strategy``); zero_stage, offload: of
            DeepSpeed; recompute, compile: of each block (``strategy.Settings``).
        micro_tokens: most tokens that one worker computes at once, its share of a step in several passes (0: in one).
        weight_decay: of matrices; dropout: of each block's outputs; schedule: form of the learning rate.
        evaluate_steps: steps between evaluations (0: at checkpoints, while that takes little: ``orders.EVALUATED``).
        tokens, epochs, flops: as ``steps`` (``budget.Budget``), whichever ends first; money: ends the run, too, at
            ``price_per_hour``.
        patience: evaluations without a better held-out loss after which the run ends at its best checkpoint (0: never).
    """

    stage: Stage
    objective: str
    run_id: str
    store: str
    folder: str
    data: str
    data_sha256: str
    initial: str
    initial_files: dict[str, str]
    model: ModelSpec
    pad: int
    batch_tokens: int
    optimizer: str
    learning_rate: float
    seed: int
    steps: int
    passes: int
    budget_s: float
    started_at: float
    checkpoint_s: float
    precision: Literal["auto", "fp32", "bf16"]
    slowest_step_s: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    most_steps: int = 0
    strategy: Literal["ddp", "fsdp2", "deepspeed"] = "ddp"
    zero_stage: int = 2
    offload: bool = False
    recompute: bool = False
    compile: bool = False
    micro_tokens: int = 0
    weight_decay: float = 0.1
    dropout: float = 0.0
    schedule: Literal["cosine", "wsd"] = "cosine"
    evaluate_steps: int = 0
    patience: int = 0
    tokens: int = 0
    epochs: float = 0.0
    flops: float = 0.0
    money: float = 0.0
    price_per_hour: float = 0.0

    @staticmethod
    def loop_settings(section: TrainSection) -> dict[str, Any]:
        """The fields that are settings of the loop alone, the same for every objective."""
        return {name: getattr(section, name) for name in LOOP}

    def starting_from(self, store: Store, base: Manifest) -> RunPlan:
        """The same run from the weights of a published checkpoint."""
        return dataclasses.replace(self, initial=store.artefact(base), initial_files=weight_hashes(base))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, as it travels to the workers."""
        return {**vars(self), "model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> RunPlan:
        """The plan that ``to_dict`` wrote."""
        return cls(**{**row, "model": spec_from(row["model"])})
