"""Training a model and judging it (train_jobs, actors/policies)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cluster.core.sections.base import Section


class TrainSection(Section):
    """Training a model of one's own (train_jobs)."""

    name: str = "small"
    """Name of the trained model and of the tier it serves."""
    min_documents: int = Field(200, ge=10)
    """A corpus with fewer documents is not trained on: `quote` serves alone."""
    vocab_size: int = Field(4096, ge=512, le=65_536)
    """Tokens of the byte-level BPE tokenizer, special tokens included."""
    hidden: int = Field(160, ge=32)
    """Width of the model."""
    layers: int = Field(4, ge=1)
    """Transformer blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads; `hidden` must be a multiple."""
    kv_heads: int = Field(2, ge=1)
    """Key and value heads (grouped-query attention); `heads` must be a multiple."""
    mlp: int = Field(448, ge=32)
    """Width of the feed-forward layer."""
    # -- whose architecture, and which of its weights learn
    model: str = ""
    """What `plinth train pretrain` gives random weights to, instead of the sizes above: a config.json, a folder or a
    hub's id, of any causal language model of transformers."""
    lora_rank: int = Field(0, ge=0, le=512)
    """Rank of low-rank adapters that fine-tuning trains instead of all weights (LoRA); 0 trains all weights."""
    lora_alpha: float = Field(16.0, gt=0)
    """Adapters are scaled by this over their rank."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's inputs left out in each step of training."""
    lora_targets: str = "all-linear"
    """Which layers get an adapter: names, comma-separated (`q_proj,v_proj`), or all linear ones but the head."""
    # --
    context_tokens: int = Field(512, ge=64, le=8192)
    """Longest prompt and answer together."""
    workers: int = Field(0, ge=0)
    """Training workers; 0 means two where there are two CPUs or more, else one."""
    worker_cpus: float = Field(0.0, ge=0)
    """Ray CPUs reserved per training worker (0 on a laptop, so that other jobs may use every core)."""
    minutes: float = Field(2.0, gt=0)
    """Budget of pretraining and fine-tuning together, in minutes of processor time had (at most three times that by the
    clock); ignored where `steps` is given. Not in a run_key."""
    pretrain_share: float = Field(0.35, gt=0, lt=1)
    """Share of the budget that goes to pretraining."""
    min_steps: int = Field(200, ge=0)
    """Least steps of fine-tuning that a time budget must hold, or nothing is trained: 300 passed the gate, 88 never."""
    steps: int = Field(0, ge=0)
    """Optimizer steps of each stage instead of a wall-clock budget (0: by the clock): reproducible runs."""
    batch_tokens: int = Field(2048, ge=256)
    """Tokens of one optimizer step, all workers together."""
    # How pretraining reads documents (train_jobs/data).
    packing: Literal["documents", "stream"] = "documents"
    """Whether documents that share a row of pretraining are kept from seeing each other."""
    # -
    optimizer: Literal["adamw", "muon"] = "adamw"
    """What turns gradients into steps (train_jobs/trainer/optimizer.py)."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto measures whether bf16 autocast is faster on this CPU (runs by `steps` take fp32)."""
    seed: int = Field(0, ge=0)
    """Seed of weights and data order."""
    checkpoint_s: float = Field(10.0, gt=0)
    """Seconds between checkpoints: what a kill costs at most."""
    # Differential privacy (train_jobs/trainer/privacy.py), of the recipes that learn from rows.
    dp_epsilon: float = Field(0.0, ge=0)
    """Train with differential privacy that spends at most this epsilon; 0 trains without."""
    dp_delta: float = Field(0.0, ge=0, lt=1)
    """Its delta; 0 takes a tenth of one in as many as there are rows."""
    dp_clip: float = Field(1.0, gt=0)
    """The longest gradient that one row may have; the noise is in units of it."""
    # -
    examples: int = Field(3000, ge=50)
    """Synthetic examples made for fine-tuning."""
    held_out: float = Field(0.1, gt=0, lt=0.5)
    """Share of the documents kept out of training, for the gate's questions."""

    # -- the group of workers (train_jobs/fit.py) ----------------------------------------------------------------------
    gpus: int = Field(0, ge=0, le=1)
    """GPUs of each training worker, 0 or 1: one process for each GPU. With 1, `workers=0` means one for every GPU."""
    node_group: str = ""
    """Group of nodes that training runs on (their label plinth.group: `gpu8` in ray-cluster.yaml); empty: any node."""
    workers_min: int = Field(0, ge=0)
    """Fewest workers that go on training where nodes come and go: from so many to `workers`; 0: always `workers`."""
    resize_s: float = Field(60.0, gt=0)
    """How often an elastic group (`workers_min`) looks for nodes that came; what was trained since a checkpoint is done
    again."""
    hang_factor: float = Field(20.0, ge=0)
    """A worker without a step for so many times the median step is stuck: stacks go to the log, the group starts again
    at the last checkpoint. 0: never."""
    hang_s: float = Field(60.0, gt=0)
    """Least seconds without a step before a worker counts as stuck."""

    # -- the loop (train_jobs/trainer, train_jobs/distributed)
    strategy: Literal["ddp", "fsdp2", "deepspeed"] = "ddp"
    """How workers hold one model: each the whole (ddp), or parts of it (fsdp2; deepspeed: ZeRO, an extra package)."""
    zero_stage: int = Field(2, ge=1, le=3)
    """What DeepSpeed cuts into parts: 1 the optimizer's state, 2 gradients too, 3 weights too."""
    offload: bool = False
    """DeepSpeed keeps the optimizer's state in the host's memory instead of the GPU's."""
    recompute: bool = False
    """Compute each block's activations again in the backward pass instead of keeping them: less memory, more time."""
    compile: bool = False
    """torch.compile each block: minutes at the start, faster steps on GPUs."""
    micro_tokens: int = Field(0, ge=0)
    """Most tokens a worker computes at once; a larger share of a step takes several passes (0: one pass)."""
    weight_decay: float = Field(0.1, ge=0)
    """Of matrices, per step in units of the learning rate."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each block's outputs dropped in training."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """Learning rate after its warm-up: a cosine to the end, or constant and down in the last fifth (wsd)."""
    evaluate_steps: int = Field(0, ge=0)
    """Steps between evaluations on held-out text (0: at checkpoints, while that takes at most a fifth of the run)."""
    tokens: int = Field(0, ge=0)
    """Tokens that each stage reads, instead of a wall-clock budget (0: no such limit)."""
    epochs: float = Field(0.0, ge=0)
    """Passes over its data that each stage makes, instead of a wall-clock budget (0: no such limit)."""
    flops: float = Field(0.0, ge=0)
    """Floating-point operations of each stage, instead of a wall-clock budget (0: no such limit)."""
    money: float = Field(0.0, ge=0)
    """What each stage may cost at `price_per_hour`: then it stops with a checkpoint (0: no such limit)."""
    price_per_hour: float = Field(0.0, ge=0)
    """Price of an hour of all workers together, in the currency of `money`."""
    patience: int = Field(0, ge=0)
    """End at the best checkpoint after so many evaluations without a better held-out loss (0: never)."""


# What the settings of training decide, for the run keys of its stages: a new setting joins one of these groups.
# `name`, `vocab_size`, `context_tokens`, `seed`, `examples` and `held_out` decide each for itself.
SIZE = ("train.hidden", "train.layers", "train.heads", "train.kv_heads", "train.mlp")
STEPS = (
    "train.packing", "train.batch_tokens", "train.optimizer", "train.learning_rate", "train.precision",
    "train.steps", "train.weight_decay", "train.dropout", "train.schedule", "train.evaluate_steps", "train.patience",
    "train.tokens", "train.epochs", "train.flops",
)  # fmt: skip
# The architecture is in the key of pretraining by what it is, not by where it lies.
ARCHITECTURE = ("train.model",)
LORA = ("train.lora_rank", "train.lora_alpha", "train.lora_dropout", "train.lora_targets")
# Recipes only: the other stages refuse them.
PRIVACY = ("train.dp_epsilon", "train.dp_delta", "train.dp_clip")
# How long, on how many workers and how carefully a run is made: two that differ in nothing else are the same run.
PACE = (
    "train.min_documents", "train.min_steps", "train.minutes", "train.pretrain_share", "train.workers",
    "train.worker_cpus", "train.checkpoint_s",
    "train.gpus", "train.node_group", "train.workers_min", "train.resize_s", "train.hang_factor", "train.hang_s",
    "train.money", "train.price_per_hour",
    "train.strategy", "train.zero_stage", "train.offload", "train.recompute", "train.compile", "train.micro_tokens",
)  # fmt: skip


class GateSection(Section):
    """What a model must show before it answers `auto` (actors/policies/gate.py)."""

    questions: int = Field(400, ge=20)
    """Answerable questions on held-out documents."""
    unanswerable: int = Field(200, ge=10)
    """Questions whose answer is in none of the passages shown."""
    min_difference: float = 0.0
    """The lower 95 % bound of (score of the model - score of the baseline) must lie above this."""
    min_abstained: float = Field(0.8, ge=0, le=1)
    """Least share of unanswerable questions on which the model abstains."""
    min_answered: float = Field(0.5, ge=0, le=1)
    """Least share of answerable questions that the model answers: a model that always abstains is none."""
    max_verbatim: float | None = Field(None, ge=0, le=1)
    """Most training documents that it writes on word for word (`plinth audit memorization`); unset: not asked."""
    max_ece: float | None = Field(None, ge=0, le=1)
    """How far, on average, its certainty may be from how often it is right; unset: not asked."""
    max_slice_gap: float | None = Field(None, ge=0, le=1)
    """How far the worst slice of the questions may lie below all of them; unset: not asked."""
    max_first_token_s: float | None = Field(1.0, gt=0)
    """Most seconds to the first token of a model that writes, after a prompt of 600 tokens; unset: not asked."""


# Which questions the gate asks, and what it wants of the answers.
QUESTIONS = ("gate.questions", "gate.unanswerable")
VERDICT = (
    "gate.min_difference", "gate.min_abstained", "gate.min_answered", "gate.max_verbatim", "gate.max_ece",
    "gate.max_slice_gap", "gate.max_first_token_s",
)  # fmt: skip
