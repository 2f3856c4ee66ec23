"""A rank of training runs without Ray: ``python -m tests.train_jobs.distributed.worker ORDERS.json RANK SIZE FOLDER``.

The file holds several orders ``{"plan": ..., "stop_at": step or 0}``, carried out one after the other in the same
group; ``stop_at`` interrupts a run there. The losses of all steps, added over the ranks, and the gradients' norms go to
``FOLDER/losses-<number>.json``, from rank 0.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from train_jobs.distributed.ranks import Ranks
from train_jobs.trainer import loop
from train_jobs.trainer.checkpoint import TrainState
from train_jobs.trainer.orders import INTERRUPTED, Pilot
from train_jobs.trainer.outcome import OUTCOME
from train_jobs.trainer.plan import RunPlan


def main() -> None:
    rank, size, folder = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    orders = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    if size > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        where, limit = f"file://{folder}/rendezvous", timedelta(seconds=120)
        torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=size, timeout=limit)
    seen: list[list[float]] = []
    real = loop.Trainer._require_numbers

    def note(trainer: loop.Trainer, losses: list[float], norms: list[float]) -> None:
        seen[-1] += [list(pair) for pair in zip(losses, norms, strict=True)]
        real(trainer, losses, norms)

    loop.Trainer._require_numbers = note  # type: ignore[method-assign]
    decide = Pilot._stop
    for number, order in enumerate(orders):
        seen.append([])
        plan, stop_at = RunPlan.from_dict(order["plan"]), order["stop_at"]

        def stop(pilot: Pilot, state: TrainState, *rest: Any, at: int = stop_at) -> int:
            return INTERRUPTED if at and state.step >= at else decide(pilot, state, *rest)

        Pilot._stop = stop  # type: ignore[method-assign]
        if rank == 0:
            Path(plan.folder, OUTCOME).unlink(missing_ok=True)
        if size > 1:
            torch.distributed.barrier()
        loop.run(plan, Ranks(rank, size, 1))
        if rank == 0:
            Path(folder, f"losses-{number}.json").write_text(json.dumps(seen[-1]))
        if size > 1:
            torch.distributed.barrier()
    if size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
