"""What a training stage will take, said before anything is started, and refused where no node can hold it.

Pure: the settings, the model's sizes, the nodes and the speed come in; ``commands`` gathers them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cluster.core.errors import EnvironmentFaultError
from cluster.core.sections.train import TrainSection
from train_jobs.planning.flops import flops_per_token, listed_memory, mfu
from train_jobs.planning.memory import MARGIN, SHARDINGS, Layout, Memory, advice, memory
from train_jobs.planning.sizes import Sizes

ASSUMED_MFU = {"cpu": 0.3, "cuda": 0.4}  # where no earlier run says what this machine reaches
ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class Node:
    """One node: CPUs, GPUs, bytes of memory for training, and of one GPU its name and bytes (0: not known)."""

    cpus: float
    memory: float
    gpus: float = 0.0
    gpu: str = ""
    gpu_memory: float = 0.0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Node:
        """From Ray's resources of a node."""
        gpu = next((name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)), "")
        return cls(
            resources.get("CPU", 0.0), resources.get("memory", 0.0), resources.get("GPU", 0.0), gpu,
            listed_memory(gpu) or 0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """``peak`` FLOP/s of one worker's device and the share of it that runs reach, with where each comes from."""

    peak: float
    reached: float
    source: str


def workers_of(section: TrainSection, nodes: Sequence[Node]) -> int:
    """How many workers train: those configured, else one a GPU, else two where there are two CPUs."""
    if section.workers:
        return section.workers
    if on_gpus(section):
        return max(1, int(sum(node.gpus for node in nodes)))
    return 2 if sum(node.cpus for node in nodes) >= 2 else 1


def on_gpus(section: TrainSection) -> bool:
    """Whether workers ask for GPUs."""
    return bool(section.model_dump().get("gpus", 0))


def layout_of(section: TrainSection, workers: int, context: int, precision: str = "") -> Layout:
    """How the settings spread a run and compute it. ``precision`` where it is known; auto counts as bf16 on GPUs."""
    given = section.model_dump()  # of what older configurations lack, the default
    strategy = given.get("strategy", "ddp")
    named = strategy if strategy != "deepspeed" else f"zero{given.get('zero_stage', 2)}"
    sharding = next(known for known in SHARDINGS if known == named)
    share = -(-section.batch_tokens // workers)
    device: Literal["cpu", "cuda"] = "cuda" if on_gpus(section) else "cpu"
    chosen = precision or section.precision
    half = chosen == "bf16" or (chosen == "auto" and device == "cuda")
    at_once = max(context, min(share, given.get("micro_tokens", 0) or share))
    return Layout(
        sharding=sharding, ranks=workers, offload=bool(given.get("offload", False)),
        precision="bf16" if half else "fp32",
        rank_tokens=at_once, context=context, checkpointing=bool(given.get("recompute", False)),
        logits_chunk=given.get("logits_chunk", 0), optimizer=section.optimizer, device=device,
    )  # fmt: skip


def dry_run(
    section: TrainSection, sizes: Sizes, nodes: Sequence[Node], speed: Speed, budget_s: float, predicted: float = 1.0
) -> dict[str, Any]:
    """Everything that a dry run says, as plain JSON; refuse it with ``refuse``.

    Args:
        nodes: those that run, or could.
        budget_s: seconds of the stage; used where the settings give no steps.
        predicted: share of the tokens that the loss is of (``flops.flops_per_token``).
    """
    workers = workers_of(section, nodes)
    context = min(section.context_tokens, sizes.context)
    layout = layout_of(section, workers, context)
    held = memory(sizes, layout)
    each = flops_per_token(sizes, context, predicted)
    tokens_per_s = speed.peak * workers * speed.reached / each
    step_s = section.batch_tokens / tokens_per_s if tokens_per_s else 0.0
    limits = [section.steps, math.ceil(section.tokens / section.batch_tokens)]
    limits.append(math.ceil(section.flops / (each * section.batch_tokens)))
    steps = min((limit for limit in limits if limit), default=int(budget_s / step_s) if step_s else 0)
    if section.money and section.price_per_hour and step_s:
        steps = min(steps, int(section.money / section.price_per_hour * 3600 / step_s))
    return {
        "parameters": sizes.parameters, "workers": workers, "strategy": layout.sharding, "device": layout.device,
        "precision": layout.precision, "worker_cpus": section.worker_cpus, "context_tokens": context,
        "batch_tokens": section.batch_tokens, "memory_per_rank": held.parts(), "memory_total": held.total,
        "memory_available": available(nodes, layout, workers), "flops_per_token": each,
        "peak_flops": speed.peak * workers,
        "mfu": round(mfu(tokens_per_s, each, speed.peak * workers), 4), "speed": speed.source,
        "tokens_per_s": round(tokens_per_s), "seconds_per_step": round(step_s, 4), "steps": steps,
        "tokens": steps * section.batch_tokens, "seconds": round(steps * step_s, 1),
    }  # fmt: skip


def available(nodes: Sequence[Node], layout: Layout, workers: int) -> float:
    """Bytes that the worst-placed rank can have: a GPU's, or a node's memory shared by the workers it holds; 0 where
    that is not known."""
    if layout.device == "cuda":
        return min((node.gpu_memory for node in nodes if node.gpus and node.gpu_memory), default=0.0)
    fitting = [node for node in nodes if node.memory]
    if not fitting:
        return 0.0
    # Ray packs workers on the nodes with room; here they are spread evenly, the kindest way there is.
    return min(node.memory for node in fitting) / -(-workers // len(fitting))


def refuse(section: TrainSection, sizes: Sizes, nodes: Sequence[Node]) -> None:
    """Refuse a stage that no node's memory can hold.

    Raises:
        EnvironmentFaultError: each rank takes more than it can have; says which part is the largest and what to change.
    """
    workers = workers_of(section, nodes)
    layout = layout_of(section, workers, min(section.context_tokens, sizes.context))
    held, room = memory(sizes, layout), available(nodes, layout, workers)
    if not room or held.total * MARGIN <= room:
        return
    changes = advice(sizes, layout, int(room))
    remedy = "; ".join(changes) if changes else "a smaller model, fewer workers on a node, or nodes with more memory"
    raise EnvironmentFaultError(
        f"a {sizes.parameters:,}-parameter model does not fit: each of {workers} workers ({layout.sharding}) needs "
        f"{gib(held.total * MARGIN)}, most of it {held.largest} ({gib(_part(held))}), and has {gib(room)}. What helps: "
        f"{remedy}", needed=round(held.total * MARGIN), available=round(room), largest=held.largest,
    )  # fmt: skip


def gib(size: float) -> str:
    """Bytes in words."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def _part(held: Memory) -> int:
    return held.parts()[held.largest]
