"""What a run survives, and why a worker died."""

from __future__ import annotations

import pytest

from train_jobs.trainer.outcome import FORGET_S, MAX_FAILURES, Failures, cause_of_death

DAY = 86_400.0


def test_a_long_run_survives_many_failures() -> None:
    failures = Failures()
    assert all(failures.add(day * DAY, f"step {day}") for day in range(50))


def test_a_place_where_it_dies_again_and_again_ends_it_however_slowly() -> None:
    failures = Failures()
    assert [failures.add(day * DAY, "step 5") for day in range(MAX_FAILURES + 1)] == [True] * MAX_FAILURES + [False]


def test_many_failures_in_a_short_time_end_it_although_it_gets_on() -> None:
    failures = Failures()
    said = [failures.add(second, f"step {second}") for second in range(MAX_FAILURES + 1)]
    assert said == [True] * MAX_FAILURES + [False]


def test_a_failure_is_forgotten_with_time_and_progress() -> None:
    failures = Failures()
    for second in range(MAX_FAILURES):
        assert failures.add(second, "step 1")
    assert failures.add(FORGET_S + 10, "step 2")
    assert len(failures.seen) == 1


DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: RayTrainWorker\n"
    "The actor is dead because its worker process has died. Worker exit type: {}"
)
SYSTEM = (
    "SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. There are "
    "some potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory usage. (2) ray "
    "stop --force is called. (3) The worker is crashed unexpectedly due to SIGSEGV or other unexpected errors."
)


@pytest.mark.parametrize(
    ("said", "kills", "cause"),
    [
        (DIED.format("NODE_OUT_OF_MEMORY Worker exit detail: Task was killed due to the node running low on memory."),
         0, "Ray ended it, because its machine was running out of memory"),
        (DIED.format(SYSTEM), 1, "the kernel killed it for want of memory"),
        ("The actor died because its node has died. Node Id: ab12", 0, "its machine went away"),
        ("", 0, "no reason given"),
    ],
)  # fmt: skip
def test_why_a_worker_died(said: str, kills: int, cause: str) -> None:
    assert cause_of_death(said, kills) == cause


def test_ray_s_list_of_guesses_is_no_verdict() -> None:
    """Ray names the kernel's OOM killer first for any process that went away."""
    assert cause_of_death(DIED.format(SYSTEM)) == "its process was killed or crashed, nothing says by what"
