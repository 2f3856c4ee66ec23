"""Whichever limit ends first ends a run; only a clock that is alone drives the learning rate."""

from __future__ import annotations

import pytest

from cluster.core.errors import UsageError
from train_jobs.trainer.budget import Budget, Spent

EPOCH, FLOPS, PRICE = 50, 6e9, 36.0
UNITS = {"steps_per_epoch": EPOCH, "flops_per_token": FLOPS, "price_per_hour": PRICE}


@pytest.mark.parametrize(
    ("limit", "value", "last"),
    [("steps", 100, Spent(99, 1, 1, 1)), ("tokens", 1000, Spent(1, 999, 1, 1)), ("epochs", 2.0, Spent(99, 1, 1, 1)),
     ("seconds", 10.0, Spent(1, 1, 9.9, 99)), ("flops", 6e12, Spent(1, 999, 1, 1)),
     ("money", 2.0, Spent(1, 1, 1, 199))],
)  # fmt: skip
def test_each_limit_alone(limit: str, value: float, last: Spent) -> None:
    budget = Budget(**{limit: value}, **UNITS)
    assert budget.over(last) is None
    at = Spent(last.steps + 1, last.tokens + 1, last.seconds + 0.1, last.clock_s + 1)
    assert budget.over(at) == limit
    assert 0.98 < budget.progress(last) < 1.0
    assert budget.progress(Spent(10**6, 10**9, 1e6, 1e6)) == budget.done(at) == 1.0


def test_whichever_ends_first() -> None:
    budget = Budget(steps=100, tokens=10_000, seconds=60.0, money=5.0, price_per_hour=PRICE)
    assert budget.limits() == ("steps", "tokens", "seconds", "money")
    assert budget.over(Spent(50, 10_000, 1.0, 1.0)) == "tokens"
    assert budget.over(Spent(50, 5_000, 61.0, 61.0)) == "seconds"
    assert budget.over(Spent(50, 5_000, 1.0, 501.0)) == "money", "waiting costs too"


def test_the_clock_drives_the_learning_rate_only_where_it_is_alone() -> None:
    slow, fast = Spent(50, 5_000, 55.0, 55.0), Spent(50, 5_000, 2.0, 2.0)
    both = Budget(steps=100, seconds=60.0)
    assert both.progress(slow) == both.progress(fast) == 0.5
    assert both.done(slow) > 0.9
    alone = Budget(seconds=60.0)
    assert alone.progress(slow) > alone.progress(fast)
    assert Budget(money=1.0, price_per_hour=PRICE).progress(Spent(1, 1, 1.0, 50.0)) == 0.5


def test_small_data_end_no_run_before_it_learnt() -> None:
    budget = Budget(epochs=2.0, steps_per_epoch=10, fewest_steps=250)
    assert budget.over(Spent(steps=249)) is None
    assert budget.over(Spent(steps=250)) == "epochs"
    assert budget.progress(Spent(steps=125)) == 0.5


def test_time_left() -> None:
    budget = Budget(steps=100)
    assert budget.remaining_s(Spent()) is None
    assert budget.remaining_s(Spent(25, 1, 10.0, 12.0)) == pytest.approx(36.0)
    assert budget.remaining_s(Spent(100, 1, 10.0, 12.0)) == 0.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({}, "needs a budget"), ({"steps": -1}, "steps"), ({"seconds": float("nan")}, "seconds"),
     ({"epochs": 1.0}, "steps of an epoch"), ({"flops": 1e9}, "FLOPs of a token"), ({"money": 3.0}, "no price")],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(wrong, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Budget(**wrong)
