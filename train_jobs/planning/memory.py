"""Bytes of memory that training takes on each rank, part by part: arithmetic over a model's sizes, without the model.

Weights, gradients and Adam's two moments follow Rajbhandari et al. 2020 (ZeRO); what is saved of a block for the
backward pass is counted from the operations of ``models/llama.py``, the fused attention of torch among them, and held
against what autograd saves by a test. What libraries take besides (allocator's slack, communication buffers of NCCL) is
in no formula: ``MARGIN`` is added where a plan is held against a machine.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from train_jobs.planning.sizes import Sizes

Sharding = Literal["ddp", "fsdp2", "zero1", "zero2", "zero3"]
Arithmetic = Literal["fp32", "bf16"]
SHARDINGS: tuple[Sharding, ...] = ("ddp", "zero1", "zero2", "zero3", "fsdp2")
MARGIN = 1.1
PROCESS = {"cpu": 450 * 2**20, "cuda": 900 * 2**20}  # python with torch and ray on a CPU; a CUDA context
MOMENTS = {"adamw": 2, "muon": 1}  # numbers of optimizer state a weight; Muon's embeddings keep Adam's two


@dataclass(frozen=True)
class Layout:
    """How a run is spread and computed.

    Attributes:
        sharding: what is cut over the ranks: nothing (ddp), the optimizer's state (zero1), gradients too (zero2),
            weights too (zero3, fsdp2).
        ranks: over how many. offload: optimizer state and its weights wait in the host's memory.
        precision: bf16 keeps float32 weights for the optimizer.
        rank_tokens: tokens of a step on one rank at once (a micro-batch). context: of those in a row.
        checkpointing: blocks keep only their input and compute the rest again in the backward pass.
        logits_chunk: tokens whose logits exist at once; 0: those of all.
        optimizer: a name of ``MOMENTS``.
        device: where weights live.
    """

    sharding: Sharding = "ddp"
    ranks: int = 1
    offload: bool = False
    precision: Arithmetic = "fp32"
    rank_tokens: int = 2048
    context: int = 2048
    checkpointing: bool = False
    logits_chunk: int = 0
    optimizer: str = "adamw"
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank. ``gathered`` are whole blocks put together from their shards, two at a time (the next one
    comes while one computes); ``host`` is what offloading moves off the device, and is in ``total`` only on a CPU."""

    process: int
    weights: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int
    logits: int
    host: int = 0

    @property
    def total(self) -> int:
        """Bytes on the device."""
        return sum(getattr(self, part.name) for part in fields(self) if part.name != "host")

    def parts(self) -> dict[str, int]:
        """Bytes by part, those of no part left out, without the total."""
        return {part.name: value for part in fields(self) if (value := getattr(self, part.name))}

    @property
    def largest(self) -> str:
        """The part that takes most."""
        parts = {name: value for name, value in self.parts().items() if name != "host"}
        return max(parts, key=lambda name: parts[name])


def memory(sizes: Sizes, layout: Layout) -> Memory:
    """What one rank holds at the worst moment of a step."""
    n, ranks = sizes.parameters, layout.ranks
    cut = {"ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp2": 3}[layout.sharding]
    zero = layout.sharding.startswith("zero")
    half = layout.precision == "bf16"
    # DeepSpeed computes with bf16 copies and keeps float32 masters as optimizer state; the others keep float32 weights
    # and cast: under autocast the copies of one forward pass are alive together.
    working = 2 if half and zero else 4
    masters = 4 if half and zero else 0
    cast = 2 * n if half and layout.sharding == "ddp" else 0
    weights = _share(working * n, ranks if cut >= 3 else 1) + cast
    gradients = _share(working * n, ranks if cut >= 2 else 1)
    state = _share((4 * moments(sizes, layout.optimizer) + masters * n), ranks if cut >= 1 else 1)
    gathered = 0
    if cut >= 3 and ranks > 1:
        whole = max(sizes.block, sizes.embedding)
        gathered = (2 if half else 4) * (whole + sizes.block)
    host = 0
    if layout.offload and layout.device != "cpu":
        host, state = state, 0
        if layout.sharding == "fsdp2":  # its policy moves the shards of weights and gradients along
            host, weights, gradients = host + weights + gradients, 0, 0
    return Memory(
        PROCESS[layout.device], weights, gradients, state, gathered, activations(sizes, layout), logits(sizes, layout),
        host,
    )  # fmt: skip


def moments(sizes: Sizes, optimizer: str) -> int:
    """Numbers in the optimizer's state: two a weight for AdamW; for Muon one a weight of the blocks' matrices."""
    if optimizer == "muon":
        blocks = sizes.layers * (sizes.block - 2 * sizes.hidden)
        return blocks + 2 * (sizes.parameters - blocks)
    return MOMENTS[optimizer] * sizes.parameters


def activations(sizes: Sizes, layout: Layout) -> int:
    """Bytes that are kept of a forward pass for the backward pass, logits apart."""
    number = 2 if layout.precision == "bf16" else 4
    tokens, width, heads = layout.rank_tokens, sizes.hidden, sizes.heads * sizes.head_dim
    # Of both norms the input, the normalised input and the output; q, k and v (repeated to all heads), attention's
    # output as it came and as the output matrix reads it; of the feed-forward layer the factors of its products.
    block = tokens * (number * (6 * width + 5 * heads + (4 if sizes.gated else 2) * sizes.mlp))
    block += tokens * 4 * (sizes.heads + 2)  # log-sum-exp of attention, one number a norm, float32
    edges = tokens * (8 + number * 3 * width)  # ids and the last norm
    if layout.checkpointing:
        return edges + sizes.layers * tokens * number * width + block
    return edges + sizes.layers * block


def logits(sizes: Sizes, layout: Layout) -> int:
    """Bytes of float32 logits, their log-softmax and its gradient, of the tokens that are computed at once."""
    tokens = min(layout.logits_chunk or layout.rank_tokens, layout.rank_tokens)
    return 3 * 4 * tokens * sizes.vocab


def advice(sizes: Sizes, layout: Layout, available: int) -> list[str]:
    """What would make a plan fit ``available`` bytes, the smallest change first; empty where nothing here helps."""
    import dataclasses

    changes: list[tuple[str, dict[str, object]]] = [
        ("compute the loss in chunks of 1,024 tokens", {"logits_chunk": 1024}),
        ("checkpoint activations", {"checkpointing": True}),
        ("take one row at a time (gradient accumulation)", {"rank_tokens": min(layout.context, layout.rank_tokens)}),
    ]
    if layout.ranks > 1 and layout.sharding not in ("fsdp2", "zero3"):
        changes.append(("shard the model (fsdp2)", {"sharding": "fsdp2"}))
    if not layout.offload and layout.device == "cuda":
        changes.append(("offload the optimizer to the host", {"offload": True}))
    changed, said = layout, []
    for words, change in changes:
        after = dataclasses.replace(changed, **change)  # type: ignore[arg-type]
        if memory(sizes, after).total >= memory(sizes, changed).total:
            continue
        changed = after
        said.append(words)
        if memory(sizes, changed).total * MARGIN <= available:
            return said
    return []


def _share(total: int, ranks: int) -> int:
    return -(-total // ranks)
