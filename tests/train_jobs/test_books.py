"""Whatever trains on the cluster, its runs come into mlflow's schema: somebody has to be there who copies them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.trainer.plans import make_plan

pytestmark = pytest.mark.process


def test_the_actor_that_copies_the_books_runs_wherever_workers_train(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from train_jobs import fit
    from train_jobs.trainer.outcome import RunOutcome

    store, asked = Store(str(tmp_path / "store")), []
    plan = make_plan(store)
    group: Any = object.__new__(fit.Workers)  # one whose workers have ended already
    group.__dict__.update(store=store, folder=store.staging("workers"), _number=0, _fitting=None, _books_kept=False)

    def order(plan: Any) -> None:
        if plan is not None:
            RunOutcome("finished", plan.steps).write(store, plan.folder)

    group._order = order
    monkeypatch.setattr(fit.spawn, "registry", lambda store, home: asked.append(str(home.root)))
    group.carry_out(plan, Silent())
    group.carry_out(plan, Silent())
    assert asked == [str(home)]

    def broken(*given: Any) -> None:
        raise ray.exceptions.RaySystemError("no cluster")

    group._books_kept = False
    monkeypatch.setattr(fit.spawn, "registry", broken)
    group.carry_out(plan, Silent())  # what was trained is not lost for it
