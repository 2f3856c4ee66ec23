"""What to say when a worker has no memory left: what it was busy with, and what to lower."""

from __future__ import annotations

from cluster.core.errors import PlinthError, TrainingError
from train_jobs.trainer.plan import RunPlan

_MODEL = "the model's size; or cut it into parts: train.strategy=fsdp2, or deepspeed with train.zero_stage=3"
_ADVICE = {
    "data": "what else runs on the machine",
    "model": _MODEL,
    "optimizer's step": f"{_MODEL} (train.offload=true keeps its state on the host)",
    "checkpoint": "train.workers on one machine, or the model's size: each worker copies its part to write it",
    "evaluation": "train.context_tokens or train.batch_tokens",
}


def as_failure(error: PlinthError | MemoryError | RuntimeError, part: str, plan: RunPlan) -> PlinthError | None:
    """The error a person should read, or None where trying again may help.

    Args:
        part: what the worker was busy with.
    """
    if isinstance(error, PlinthError):
        return error
    said = str(error)
    if not (isinstance(error, MemoryError) or "allocate memory" in said or "out of memory" in said):
        return None
    where = "GPU memory" if "CUDA" in said else "memory"
    lower = _ADVICE.get(part) or (
        f"train.micro_tokens (now {plan.micro_tokens or plan.batch_tokens}; the result stays the same), "
        "train.batch_tokens, train.workers or the model's size, or set train.recompute=true"
    )
    return TrainingError(
        f"a training worker ran out of {where} in its {part}: lower {lower}, or free some memory; nothing was published"
    )
