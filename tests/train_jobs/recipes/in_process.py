"""Workers that are this process: the loop without Ray."""

from __future__ import annotations

from typing import Any

from cluster.core.storage import Store
from train_jobs.distributed.ranks import Ranks
from train_jobs.trainer.outcome import RunOutcome
from train_jobs.trainer.plan import RunPlan


class InProcess:
    """Carries plans out by calling the loop; ``plans`` are those it was given, as they travel."""

    size = 1

    def __init__(self) -> None:
        self.plans: list[RunPlan] = []

    def carry_out(self, plan: RunPlan, progress: Any) -> None:
        from train_jobs.trainer import loop

        del progress
        self.plans.append(RunPlan.from_dict(plan.to_dict()))
        loop.run(self.plans[-1], Ranks())
        store = Store(plan.store)
        outcome = RunOutcome.read(store, plan.folder)
        assert outcome is not None
        if outcome.state == "failed":
            raise outcome.as_error(plan.run_id)
