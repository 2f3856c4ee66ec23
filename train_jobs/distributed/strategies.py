"""The strategies by the names that ``train.strategy`` gives them; only the one that is chosen is imported."""

from __future__ import annotations

from cluster.core.errors import IncompatibleError
from train_jobs.distributed.ranks import Ranks
from train_jobs.distributed.strategy import Settings, Strategy


def make_strategy(name: str, ranks: Ranks, settings: Settings) -> Strategy:
    """The strategy of that name for this rank.

    Raises:
        IncompatibleError: there is none, or it is not installed.
    """
    if name == "deepspeed":
        from train_jobs.distributed.deepspeed import DeepSpeed

        return DeepSpeed(ranks, settings)
    if name not in ("ddp", "fsdp2"):
        raise IncompatibleError(f"a strategy {name!r} is not known to this version: ddp, fsdp2, deepspeed are")
    if ranks.size == 1:
        return Strategy(ranks, settings)
    if name == "fsdp2":
        from train_jobs.distributed.fsdp import Fsdp

        return Fsdp(ranks, settings)
    from train_jobs.distributed.ddp import Ddp

    return Ddp(ranks, settings)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over ranks, as a plain one."""
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found.detach()


def _room(weight: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor for a piece of state: spread like its weight where it has its shape."""
    if tuple(weight.shape) == shape:
        return torch.zeros_like(weight, dtype=dtype, requires_grad=False)
    return torch.zeros(shape, dtype=dtype, device=weight.device)
