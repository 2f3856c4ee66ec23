"""Whether the time is enough for a model, from what a step took."""

from __future__ import annotations

import pytest

from cluster.core.sections.train import TrainSection
from train_jobs.trainer.forecast import forecast, slowest_step
from train_jobs.trainer.schedule import FINISH_S, MAX_STRETCH, counted_seconds

SECTION = TrainSection()


def test_an_idle_laptop_has_time_enough() -> None:
    """180 steps of pretraining took about 40 s, and 552 of fine-tuning followed (LOG.md): that model passed."""
    ahead = forecast(40 / 180, seconds=78.0, section=SECTION)
    assert ahead.enough
    assert ahead.steps > 552 * 0.9


def test_a_busy_machine_has_not_and_is_told_what_it_needs() -> None:
    """Six steps of pretraining and thirty of fine-tuning were made there, and the gate refused."""
    ahead = forecast(5.0, seconds=78.0, section=SECTION)
    assert not ahead.enough
    assert ahead.steps == 29
    assert "29 steps" in ahead.reason
    assert f"give it {ahead.minutes} minutes" in ahead.reason
    assert forecast(5.0, ahead.minutes * 60 * (1 - SECTION.pretrain_share), SECTION).enough


@pytest.mark.parametrize("seconds", [30.0, 78.0, 600.0])
def test_the_slowest_step_is_where_the_forecast_turns(seconds: float) -> None:
    slowest = slowest_step(seconds, SECTION)
    assert forecast(slowest * 0.99, seconds, SECTION).enough
    assert not forecast(slowest * 1.01, seconds, SECTION).enough


def test_no_time_makes_no_step_and_no_floor_asks_for_none() -> None:
    assert forecast(1.0, FINISH_S / 2, SECTION).steps == 0
    assert 0.0 < slowest_step(FINISH_S / 2, SECTION) < 1e-9
    assert slowest_step(60.0, TrainSection(min_steps=0)) == 0.0


def test_on_a_machine_of_its_own_the_clock_counts() -> None:
    assert counted_seconds(wall_s=10.0, cpu_s=9.5, threads=1) == 10.0
    assert counted_seconds(wall_s=10.0, cpu_s=17.0, threads=2) == 10.0


def test_seconds_without_a_processor_do_not_count() -> None:
    assert counted_seconds(wall_s=10.0, cpu_s=4.0, threads=1) == 5.0
    assert counted_seconds(wall_s=10.0, cpu_s=8.0, threads=2) == 5.0


def test_but_not_without_end() -> None:
    assert counted_seconds(wall_s=30.0, cpu_s=0.0, threads=1) == 30.0 / MAX_STRETCH


def test_where_another_device_computes_the_clock_counts() -> None:
    """A worker on a GPU hardly uses a processor, however fast it is."""
    assert counted_seconds(wall_s=30.0, cpu_s=1.0, threads=8, device="cuda") == 30.0
