"""What rank 0 decides at a look: evaluations at checkpoints take no more than their share of a run."""

from __future__ import annotations

from pathlib import Path

from cluster.core.storage import Store
from tests.train_jobs.trainer.plans import make_plan
from train_jobs.trainer.budget import Budget
from train_jobs.trainer.checkpoint import TrainState
from train_jobs.trainer.orders import EVALUATED, Pilot


def pilot_of(tmp_path: Path, evaluate_steps: int = 0) -> Pilot:
    plan = make_plan(Store(str(tmp_path)), steps=100, checkpoint_s=10.0, evaluate_steps=evaluate_steps)
    return Pilot(plan, Budget(steps=100), 0)


def evaluates(pilot: Pilot, step: int, elapsed: float) -> tuple[bool, bool]:
    """Whether a look at this step, so many seconds into the run, saves and evaluates."""
    orders = pilot.decide(TrainState(step=step, rows=[{"step": 0, "held_out_loss": 1.0}]), elapsed, elapsed)
    return orders.save, orders.evaluate


def test_a_checkpoint_is_evaluated_while_that_costs_little(tmp_path: Path) -> None:
    pilot = pilot_of(tmp_path)
    assert evaluates(pilot, 0, 0.0) == (False, False)
    pilot.evaluated_s = 1.0
    assert evaluates(pilot, 5, 20.0) == (True, True)


def test_where_it_costs_much_checkpoints_go_on_without(tmp_path: Path) -> None:
    """A model whose held-out side takes five minutes to read was read again after every step."""
    pilot = pilot_of(tmp_path)
    before = 3600.0  # of an earlier attempt, which evaluated as well
    assert evaluates(pilot, 1, before)[0]
    pilot.evaluated_s = 300.0
    assert evaluates(pilot, 5, before + 320.0) == (True, False)
    assert evaluates(pilot, 6, before + 300.0 / EVALUATED + 1) == (True, True)
    assert evaluates(pilot, 100, before + 400.0) == (True, True), "and at the end in any case"


def test_what_the_plan_asks_for_is_made(tmp_path: Path) -> None:
    pilot = pilot_of(tmp_path, evaluate_steps=5)
    pilot.evaluated_s = 300.0
    assert evaluates(pilot, 5, 320.0) == (True, True)
    assert evaluates(pilot, 6, 340.0)[1] is False
