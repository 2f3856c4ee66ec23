"""A worker that takes no step any more is ended with its stacks; slow phases, sleep and slow machines are no hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from train_jobs.trainer import watchdog
from train_jobs.trainer.watchdog import EXIT_CODE, LONGEST_PHASE_S, WARM_UP, Watchdog

ROOT = Path(__file__).resolve().parents[3]


class Clock:
    """Time that passes when the test says so, for the loop and for its watchdog."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, factor: float = 20.0, least_s: float = 60.0) -> None:
        self.now = 1000.0
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now)
        self.hangs: list[tuple[str, float, float]] = []
        self.dog = Watchdog(factor, least_s, lambda *hang: self.hangs.append(hang))

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.dog.look(1.0)

    def steps(self, count: int, each: int) -> None:
        for _ in range(count):
            self.passes(each)
            self.dog.beat()


def test_a_step_many_times_longer_than_the_median_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.steps(10, 5)
    clock.passes(100)  # 20 times the median of 5
    assert clock.hangs == []
    clock.passes(1)
    assert clock.hangs == [("step", 101.0, 100.0)]
    clock.passes(500)
    assert len(clock.hangs) == 1, "told once"


def test_short_steps_have_the_least_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.steps(10, 1)
    clock.passes(60)
    assert clock.hangs == []
    clock.passes(1)
    assert clock.hangs == [("step", 61.0, 60.0)]


def test_some_long_steps_do_not_raise_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.steps(20, 4)
    clock.steps(3, 50)
    assert clock.dog.limit_s == 80


def test_the_first_steps_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilation: only the limit of phases holds until a median is known."""
    clock = Clock(monkeypatch)
    clock.steps(WARM_UP, 400)
    assert clock.hangs == []
    clock.passes(int(LONGEST_PHASE_S) + 1)
    assert len(clock.hangs) == 1


@pytest.mark.parametrize("phase", ["evaluate", "save", "compile"])
def test_a_phase_may_take_long_and_counts_as_no_step(monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    clock = Clock(monkeypatch)
    clock.steps(10, 2)
    with clock.dog.during(phase):
        clock.passes(900)
    clock.passes(2)
    clock.dog.beat()
    assert clock.hangs == []
    assert clock.dog.limit_s == 60, "900 s of a phase did not enter the median"
    assert clock.dog.seconds[phase] == 900
    with clock.dog.during(phase):
        clock.passes(int(LONGEST_PHASE_S) + 1)
    assert [hang[0] for hang in clock.hangs] == [phase]


def test_phases_before_the_first_step_are_told_and_later_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a first step sees what it waits for: reading the held-out side may take minutes."""
    clock, told = Clock(monkeypatch), list[str]()
    clock.dog.tell = told.append
    for phase in ("load data", "evaluate"):
        with clock.dog.during(phase):
            clock.passes(300)
    clock.steps(1, 5)
    with clock.dog.during("save"):
        pass
    assert told == ["load data", "evaluate"]


def test_a_phase_that_raises_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(OSError, match="full"), clock.dog.during("save"):
        raise OSError("full")
    assert clock.dog.phase == "step"


def test_time_in_which_the_process_could_not_run_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept, a process that was stopped: the clock went on, its own thread did not."""
    clock = Clock(monkeypatch)
    clock.steps(10, 1)
    clock.now += 10_000
    clock.dog.look(min(10_000, 2 * watchdog.TICK_S))
    clock.passes(50)
    assert clock.hangs == []


def test_zero_means_never(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, factor=0)
    clock.steps(10, 1)
    clock.passes(10_000)
    assert clock.hangs == []


def test_seconds_of_the_start_are_kept_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with clock.dog.during("load data"):
        clock.passes(7)
    clock.steps(1, 3)
    assert clock.dog.seconds == {"load data": 7, "first step": 3}


def test_without_a_watchdog_beats_and_phases_are_nothing() -> None:
    watchdog.beat()
    with watchdog.during("save"):
        pass
    assert watchdog.startup_seconds() == {}


@pytest.mark.process
def test_compiling_is_a_phase_also_again_for_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph's compiler takes 2,000 s of the test's clock each time, where a step may take 60."""
    import torch

    from train_jobs.trainer import compilation

    clock = Clock(monkeypatch)
    monkeypatch.setattr(watchdog, "_watched", clock.dog)

    def compiler(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        del inputs
        clock.passes(1500)
        return graph.forward

    compilation.tell_watchdog()
    compilation.tell_watchdog()
    assert clock.dog.least_s == compilation.LEAST_S
    clock.steps(10, 2)
    double = torch.compile(lambda x: 2 * x, backend=compiler, dynamic=False)
    for size in (3, 3, 5):
        clock.passes(2)
        double(torch.ones(size))
        clock.dog.beat()
    assert clock.hangs == []
    assert clock.dog.seconds["compile"] == 3000
    assert clock.dog.phase == "step"
    clock.passes(601)
    assert [hang[0] for hang in clock.hangs] == ["step"], "and what does not compile may still hang"


HANGS = """
import sys, threading, time
from pathlib import Path
from train_jobs.trainer import watchdog

watchdog.TICK_S = 0.05

def stuck_in_a_collective():
    threading.Event().wait()

def keep(name, body):
    Path(sys.argv[1], name).write_bytes(body)
    if sys.argv[2] == "the storage hangs too":
        threading.Event().wait()

watchdog.LAST_WORDS_S = 1.0
with watchdog.watching(2.0, 0.3, rank=3, run_id="r1", keep=keep, before={"controller": 1.5}):
    for _ in range(5):
        time.sleep(0.01)
        watchdog.beat()
    assert watchdog.startup_seconds()["controller"] == 1.5
    stuck_in_a_collective()
print("not reached")
"""


@pytest.mark.process
@pytest.mark.parametrize(("storage", "code"), [("works", EXIT_CODE), ("the storage hangs too", 1)])
def test_a_hung_process_ends_and_leaves_its_stacks(tmp_path: Path, storage: str, code: int) -> None:
    environ = {"PLINTH_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path), storage], env=environ, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    stacks = (tmp_path / "stacks-rank3.txt").read_text()
    assert "stuck_in_a_collective" in stacks
    (event,) = [json.loads(line) for line in (tmp_path / "home" / "logs" / "train.jsonl").read_text().splitlines()]
    assert (event["event"], event["run"], event["rank"], event["phase"]) == ("hung", "r1", 3, "step")
    assert "stuck_in_a_collective" in event["stack"]
    assert event["waited_s"] >= event["limit_s"] >= 0.3
