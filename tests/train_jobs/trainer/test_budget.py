"""Whichever limit ends first ends a run; the clock drives the learning rate only where it is the budget."""

from __future__ import annotations

import pytest

from cluster.core.errors import UsageError
from train_jobs.trainer.budget import Budget, Spent

EPOCH, FLOPS, PRICE, STEP = 50, 6e9, 36.0, 10
UNITS = {"steps_per_epoch": EPOCH, "flops_per_token": FLOPS, "price_per_hour": PRICE, "tokens_per_step": STEP}


@pytest.mark.parametrize(
    ("limit", "value", "last", "named"),
    [("steps", 100, Spent(99, 1, 1), "steps"), ("tokens", 1000, Spent(99, 1, 1), "steps"),
     ("epochs", 2.0, Spent(99, 1, 1), "steps"), ("flops", 6e12, Spent(99, 1, 1), "steps"),
     ("seconds", 10.0, Spent(1, 9.9, 99), "seconds"), ("money", 2.0, Spent(1, 1, 199), "money")],
)  # fmt: skip
def test_each_limit_alone(limit: str, value: float, last: Spent, named: str) -> None:
    budget = Budget(**{limit: value}, **UNITS)
    assert budget.over(last) is None
    assert budget.steps_left(last) == 1
    at = Spent(last.steps + 1, last.seconds + 0.1, last.clock_s + 1)
    assert budget.over(at) == named
    assert 0.98 < budget.progress(last) < 1.0
    assert budget.progress(Spent(10**6, 1e6, 1e6)) == budget.done(at) == 1.0


def test_whichever_ends_first() -> None:
    budget = Budget(steps=100, tokens=600, seconds=60.0, money=5.0, price_per_hour=PRICE, tokens_per_step=STEP)
    assert budget.over(Spent(60, 1.0, 1.0)) == "steps"
    assert budget.over(Spent(50, 61.0, 61.0)) == "seconds"
    assert budget.over(Spent(50, 1.0, 501.0)) == "money", "waiting costs too"
    assert budget.over(Spent(59, 1.0, 1.0)) is None


def test_the_clock_drives_the_learning_rate_only_where_it_is_the_budget() -> None:
    slow, fast = Spent(50, 55.0, 55.0), Spent(50, 2.0, 2.0)
    both = Budget(steps=100, seconds=60.0)
    assert both.progress(slow) == both.progress(fast) == 0.5
    assert both.done(slow) > 0.9
    alone = Budget(seconds=60.0)
    assert alone.progress(slow) > alone.progress(fast)
    assert Budget(money=1.0, price_per_hour=PRICE).progress(Spent(1, 1.0, 50.0)) == 0.5


def test_where_the_clock_leads_steps_may_end_the_run_and_the_rate_follows_whatever_ends_first() -> None:
    budget = Budget(seconds=5.0, steps=100, clock_leads=True)
    assert budget.progress(Spent(50, 1.0, 1.0)) == 0.5
    assert budget.progress(Spent(50, 4.0, 4.0)) == 0.8
    assert budget.over(Spent(99, 4.9, 4.9)) is None
    assert budget.over(Spent(100, 1.0, 1.0)) == "steps"
    assert budget.over(Spent(5, 5.0, 5.0)) == "seconds"


def test_small_data_end_no_run_before_it_learnt() -> None:
    budget = Budget(epochs=2.0, steps_per_epoch=10, fewest_steps=250)
    assert budget.over(Spent(steps=249)) is None
    assert budget.over(Spent(steps=250)) == "steps"
    assert budget.progress(Spent(steps=125)) == 0.5


def test_what_is_left() -> None:
    budget = Budget(steps=100)
    assert budget.remaining_s(Spent()) is None
    assert budget.remaining_s(Spent(25, 10.0, 12.0)) == pytest.approx(36.0)
    assert budget.remaining_s(Spent(100, 10.0, 12.0)) == 0.0
    assert budget.steps_left(Spent(25, 10.0, 12.0)) == 75
    by_clock = Budget(seconds=40.0)
    assert by_clock.steps_left(Spent()) is None
    assert by_clock.steps_left(Spent(25, 10.0, 12.0)) == 75


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({}, "needs a budget"), ({"steps": -1}, "steps"), ({"seconds": float("nan")}, "seconds"),
     ({"epochs": 1.0}, "steps of an epoch"), ({"tokens": 10}, "tokens of a step"),
     ({"flops": 1e9}, "FLOPs of a token"), ({"money": 3.0}, "price_per_hour")],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(wrong, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Budget(**wrong)
