from __future__ import annotations

import pytest

from train_jobs.trainer.schedule import FINISH_S, MIN_SHARE, Budget, learning_rate, train_seconds


def test_the_rate_warms_up_peaks_and_falls_to_its_floor() -> None:
    rates = [learning_rate(n / 100, 1.0, warmup=0.1, floor=0.05) for n in range(101)]
    assert rates[0] > 0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)


def test_wsd_stays_at_the_peak_and_falls_in_the_last_fifth() -> None:
    rates = [learning_rate(n / 100, 2.0, "wsd") for n in range(101)]
    assert rates[0] < rates[4] < 2.0
    assert rates[5:81] == pytest.approx([2.0] * 76, rel=1e-6)
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[100] == pytest.approx(0.1)


@pytest.mark.parametrize("progress", [-1.0, 2.0])
def test_progress_outside_the_run_is_its_end(progress: float) -> None:
    assert 0 < learning_rate(progress, 3e-3) <= 3e-3


def test_by_steps_the_clock_does_not_matter() -> None:
    budget = Budget(steps=10, seconds=5.0)
    assert budget.progress(5, elapsed_s=1000.0) == 0.5
    assert not budget.over(9, elapsed_s=1000.0)
    assert budget.over(10, elapsed_s=0.0)


def test_by_the_clock_steps_do_not_matter() -> None:
    budget = Budget(steps=0, seconds=5.0)
    assert budget.progress(1_000_000, elapsed_s=2.5) == 0.5
    assert not budget.over(1_000_000, elapsed_s=4.9)
    assert budget.over(0, elapsed_s=5.0)


def test_by_the_clock_there_may_be_a_limit_of_steps_and_the_rate_follows_whatever_ends_first() -> None:
    budget = Budget(steps=0, seconds=5.0, most=100)
    assert budget.progress(50, elapsed_s=1.0) == 0.5
    assert budget.progress(50, elapsed_s=4.0) == 0.8
    assert not budget.over(99, elapsed_s=4.9)
    assert budget.over(100, elapsed_s=1.0)
    assert budget.over(5, elapsed_s=5.0)


def test_start_up_is_part_of_the_budget_but_something_is_always_trained() -> None:
    assert train_seconds(60.0, startup_s=20.0) == 40.0 - FINISH_S
    assert train_seconds(60.0, startup_s=300.0) == MIN_SHARE * 60.0
