"""Workers that are told to end or killed: what is saved, and that the same weights come out in the end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cluster.core.storage import Store
from tests.train_jobs.distributed.groups import start, train, wait
from tests.train_jobs.trainer.plans import make_plan
from train_jobs.trainer.plan import RunPlan

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(900)]


def checkpoints(plan: RunPlan) -> list[int]:
    return sorted(int(p.parent.name) for p in Path(plan.folder).glob("checkpoints/*/manifest.json"))


def wait_until(condition, timeout: float = 200.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sigterm_saves_sigkill_costs_an_interval_and_the_weights_are_those_of_an_undisturbed_run(
    home: Path, tmp_path: Path
) -> None:
    del home
    from train_jobs.trainer.checkpoint import latest

    store = Store(str(tmp_path / "store"))
    straight = make_plan(store, "straight", steps=150, strategy="fsdp2")
    train(tmp_path / "undisturbed", [(straight, 0)], 2)
    plan = make_plan(store, "disturbed", steps=150, strategy="fsdp2", checkpoint_s=1e6)

    first = start(tmp_path / "first", [(plan, 0)], 2)
    log = Path(store.path("training", plan.run_id, "metrics.jsonl"))
    wait_until(lambda: log.exists() and '"train_loss"' in log.read_text())
    first[1].send_signal(signal.SIGTERM)  # one is told, all save and end
    said = wait(first)
    assert all("TerminatedError" in text for text in said), said
    (saved,) = checkpoints(plan)
    assert 0 < saved < 150

    often = make_plan(store, "disturbed", steps=150, strategy="fsdp2", checkpoint_s=0.05)
    second = start(tmp_path / "second", [(often, 0)], 2)
    wait_until(lambda: checkpoints(plan)[-1] > saved)
    os.kill(second[1].pid, signal.SIGKILL)
    wait(second)
    assert checkpoints(plan)[-1] < 150

    train(tmp_path / "third", [(plan, 0)], 2)
    ours, theirs = latest(store, plan.folder), latest(store, straight.folder)
    assert ours is not None
    assert theirs is not None
    assert ours.model == theirs.model
