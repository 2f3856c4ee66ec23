"""What a run survives, why a worker died, and what to lower where there was no memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.core.errors import BadInputError
from train_jobs.trainer.loop import as_failure
from train_jobs.trainer.outcome import FORGET_S, MAX_FAILURES, Failures, cause_of_death, out_of_memory

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


def raising(kind: type[Exception], text: str) -> Callable[[], None]:
    def deep() -> None:
        raise kind(text)

    return deep


def named(name: str, call: Callable[[], None]) -> Callable[[], None]:
    """A function of the given name that calls another: a frame of the loop."""
    scope: dict = {"call": call}
    exec(f"def {name}():\n    call()", scope)
    return scope[name]


CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB"
CPU = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


@pytest.mark.parametrize(
    ("frames", "part", "lower"),
    [
        (["load_data"], "the training data", "fewer train.workers"),
        (["build"], "the model's weights", "the model's size"),
        (["step", "share_of_loss", "forward"], "the activations of the forward pass", "train.batch_tokens"),
        (["backward"], "gradients and activations", "train.batch_tokens"),
        (["step"], "the optimizer's state", "the model's size"),
        (["evaluate", "share_of_loss"], "the activations of the forward pass", "train.batch_tokens"),
        (["save"], "a checkpoint", "train.workers"),
        (["something_else"], "a step", "train.batch_tokens"),
    ],
)
@pytest.mark.parametrize(("kind", "text"), [(RuntimeError, CUDA), (RuntimeError, CPU), (MemoryError, "")])
def test_no_memory_says_for_what_and_what_to_lower(
    frames: list[str], part: str, lower: str, kind: type[Exception], text: str
) -> None:
    call = raising(kind, text)
    for name in reversed(frames):
        call = named(name, call)
    with pytest.raises(kind) as raised:
        call()
    said = as_failure(raised.value)  # type: ignore[arg-type]
    assert said is not None
    assert part in said.message
    assert lower in said.message.partition(part)[2]


def test_other_errors_are_not_about_memory() -> None:
    assert out_of_memory(RuntimeError("Connection reset by peer")) is None
    assert out_of_memory(ValueError("cannot allocate memory")) is None
    mine = BadInputError("bad")
    assert as_failure(mine) is mine


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
