"""What people see of a run that workers carry out: what these are busy with, then the share of the budget."""

from __future__ import annotations

import dataclasses
import posixpath
import time
from pathlib import Path

import pytest

from actors.registry.runs import RunLog
from cluster.core.storage import Store
from tests.train_jobs.trainer.plans import make_plan
from train_jobs.fit import _Watch
from train_jobs.trainer.outcome import PHASE

pytestmark = pytest.mark.process  # ray and torch take seconds to import


class Seen:
    """A progress that notes what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None, str]] = []
        self.done = 0

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.stages.append((name, total, unit))

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def counts(self, **counts: float) -> None:
        del counts

    def waits(self, what: str) -> None:
        del what


def test_progress_is_the_share_of_the_budget_and_not_that_of_an_earlier_attempt(tmp_path: Path) -> None:
    store, seen = Store(str(tmp_path / "store")), Seen()
    plan = make_plan(store, steps=0, started_at=time.time())
    log = RunLog(store, plan.run_id, "pretrain", {})
    log.log(8, done=0.86)
    later = _Watch(dataclasses.replace(plan, started_at=time.time() + 60), store, seen)
    later.look()
    assert (seen.stages, seen.done) == ([], 0)
    for _ in range(2):  # while nothing is logged the workers say what they do
        store.write(posixpath.join(plan.folder, PHASE), b"evaluate")
        later.look()
    assert seen.stages == [("look at the held-out side first", None, "")]
    seen.stages.clear()
    watch = _Watch(dataclasses.replace(plan, started_at=plan.started_at - 60), store, seen)
    watch.look()
    log.log(9, done=0.9)
    watch.look()
    assert seen.stages == [("pretrain", 100, "%")]
    assert seen.done == 90
