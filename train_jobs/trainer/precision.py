"""In which arithmetic a worker computes: float32, or bfloat16 autocast where that is faster on this very machine.

A GPU with bf16 instructions takes bf16. A CPU is measured.

Measured on a Zen 4 CPU with bf16 instructions: at a width of 160 autocast's conversions eat what bf16 gains (within
10 % either way), so small models are not even timed. Weights, optimizer and reductions are float32 in both.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan

SMALL = 4_000_000  # parameters; a Llama 160 wide with four layers has 2 million
WORTH = 0.9  # bf16 must take less than this share of float32's time


def computing_in(precision: str, device: str = "cpu") -> AbstractContextManager[object]:
    """A context in which models on a kind of device compute in ``fp32`` or ``bf16``."""
    return torch.autocast(device, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def choose_precision(
    plan: RunPlan, model: nn.Module, batches: Batches, objective: Objective, device: torch.device, shares: int = 1
) -> bool:
    """Whether to compute in bf16. ``auto`` on a CPU times a pass of each, except where it cannot or should not pay:
    without bf16 instructions, for small models, and in runs by steps, which must be the same everywhere.

    Args:
        shares: into how many passes, of all ranks, a step is cut; one of them is timed, as more has no room.
    """
    if plan.precision != "auto":
        return plan.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if plan.steps or plan.tokens or plan.epochs or plan.flops or plan.model.parameters < SMALL or not has_bf16():
        return False
    seconds = {
        precision: min(_time_pass(model, batches, objective, precision, shares) for _ in range(2))
        for precision in ("fp32", "bf16")
    }
    return seconds["bf16"] < WORTH * seconds["fp32"]


def has_bf16() -> bool:
    """Whether the CPU has bfloat16 dot products (Linux)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _time_pass(model: nn.Module, batches: Batches, objective: Objective, precision: str, shares: int) -> float:
    batch = batches.batch(0, 0, shares)
    started = time.perf_counter()
    with computing_in(precision):
        loss = objective.share_of_loss(model, batch)
    loss.backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - started
