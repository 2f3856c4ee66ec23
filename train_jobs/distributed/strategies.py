"""Which strategy a plan's name means; a worker imports only the one of its run."""

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
