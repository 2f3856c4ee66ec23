"""Ends a training worker that takes no step any more, with the stacks of its threads in the log.

A worker can hang where nothing raises: a peer that stopped answering in the middle of a collective, a lock, a dead
filesystem. Each worker therefore has a thread that waits for the beats of its loop. Where none comes for many times the
median step, the thread writes the stack of every thread into the run's folder and ends the process; Ray Train then
starts the group again, which resumes at the last checkpoint. A worker whose process was stopped altogether (SIGSTOP, a
frozen machine) cannot watch itself: its peers, which wait for it in the next collective, do.

Only time in which this process could run counts, so a machine that slept or a process that was stopped does not count
as hung. Neither ray nor torch is imported.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from cluster.core.telemetry import log_event

EXIT_CODE = 75  # EX_TEMPFAIL: try again
# Steps before a median counts. Until then, and in named phases (start-up, compilation, evaluation, a checkpoint), only
# LONGEST_PHASE_S applies: nobody knows how long they take.
WARM_UP = 3
LONGEST_PHASE_S = 1800.0
KEPT = 200  # steps of which the median is taken
TICK_S = 1.0
# The process ends so many seconds after it began to write its stacks, even where writing them hangs as well.
LAST_WORDS_S = 15.0


def _silent(phase: str) -> None:
    pass


class Watchdog:
    """Watches one loop. ``beat`` and ``during`` are called by the loop's thread, ``look`` by the watching one.

    Args:
        factor: so many times the median step without a beat mean a hang; 0: never.
        least_s: but at least so many seconds.
        on_hang: what happens then, called once with what was awaited, for how many seconds, and the limit in seconds.
    """

    def __init__(self, factor: float, least_s: float, on_hang: Callable[[str, float, float], None]) -> None:
        self.factor, self.least_s, self._on_hang = factor, least_s, on_hang
        self.tell: Callable[[str], None] = _silent  # hears of each phase before the first step
        self.seconds: dict[str, float] = {}  # of each phase so far, the first step among them
        self._steps: deque[float] = deque(maxlen=KEPT)
        self._phases: list[str] = []
        self._waited = 0.0  # seconds since the last beat in which this process ran
        self._began = time.monotonic()
        self._beats = 0
        self._over = False
        self._end = threading.Event()
        self._median = 0.0

    @property
    def phase(self) -> str:
        """What the loop is doing: a phase's name, or ``step``."""
        return self._phases[-1] if self._phases else "step"

    @property
    def limit_s(self) -> float:
        """How long the next beat may take."""
        if self._phases or len(self._steps) < WARM_UP:
            return max(LONGEST_PHASE_S, self.least_s)
        return max(self.least_s, self.factor * self._median)

    def beat(self) -> None:
        """A step is done."""
        now = time.monotonic()
        took = now - self._began
        if not self._beats:
            self.seconds["first step"] = took
        elif not self._phases:
            self._steps.append(took)
            if len(self._steps) <= WARM_UP or self._beats % 16 == 0:
                self._median = statistics.median(self._steps)
        self._beats += 1
        self._began, self._waited = now, 0.0

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """A part of the work that is no step and may take long; its seconds are no part of the step around it."""
        self._phases.append(phase)
        if not self._beats:
            self.tell(phase)
        began, self._waited = time.monotonic(), 0.0
        try:
            yield
        finally:
            took = time.monotonic() - began
            self.seconds[phase] = self.seconds.get(phase, 0.0) + took
            self._phases.pop()
            self._began, self._waited = min(time.monotonic(), self._began + took), 0.0

    def look(self, passed_s: float) -> None:
        """``passed_s`` seconds have passed in which this process ran: is the next beat overdue?"""
        self._waited += passed_s
        if self.factor and not self._over and self._waited > self.limit_s:
            self._over = True
            self._on_hang(self.phase, self._waited, self.limit_s)

    def start(self) -> None:
        """Watch from a thread of its own until ``stop``."""
        threading.Thread(target=self._watch, name="step-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._end.set()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._end.wait(TICK_S):
            now = time.monotonic()
            # A tick that took far longer than it should have: the process was stopped, or the machine slept.
            self.look(min(now - before, 2 * TICK_S))
            before = now


_watched: Watchdog | None = None


def watched() -> Watchdog | None:
    """This worker's watchdog, None where nobody watches (a loop in a test, or outside a group)."""
    return _watched


def beat() -> None:
    """A step of this worker's loop is done."""
    if _watched is not None:
        _watched.beat()


def startup_seconds() -> dict[str, float]:
    """Seconds until this worker's first step, by part; empty where nobody watches."""
    return {} if _watched is None else {part: round(seconds, 2) for part, seconds in _watched.seconds.items()}


def bear(least_s: float) -> None:
    """Call no wait of this worker's loop a hang that is shorter than ``least_s``, for the rest of its watch."""
    if _watched is not None and _watched.factor:
        _watched.least_s = max(_watched.least_s, least_s)


def during(phase: str) -> contextlib.AbstractContextManager[None]:
    """A part of this worker's work that is no step and may take long: start-up, a compilation, evaluation, saving."""
    return _watched.during(phase) if _watched is not None else contextlib.nullcontext()


@contextmanager
def watching(
    factor: float, least_s: float, rank: int, run_id: str, keep: Callable[[str, bytes], None],
    before: Mapping[str, float] = MappingProxyType({}), tell: Callable[[str], None] = _silent,
) -> Iterator[None]:  # fmt: skip
    """Watch this process's loop for the length of the block; a hang ends the process (``EXIT_CODE``).

    Args:
        factor, least_s: as for ``Watchdog``.
        rank, run_id: for the log and for the name of the file.
        keep: writes a file of the given name and content where people look for it (the run's folder).
        before: seconds of this worker's start so far, by part.
        tell: hears of every phase before the first step, for people who wait for it.
    """
    global _watched

    def on_hang(phase: str, waited_s: float, limit_s: float) -> None:
        end_with_stacks(phase, waited_s, limit_s, rank, run_id, keep)

    _watched = Watchdog(factor, least_s, on_hang)
    _watched.seconds |= before
    _watched.tell = tell
    _watched.start()
    try:
        yield
    finally:
        _watched.stop()
        _watched = None


def end_with_stacks(
    phase: str, waited_s: float, limit_s: float, rank: int, run_id: str, keep: Callable[[str, bytes], None]
) -> None:
    """Write the stack of every thread of this process to the log and by ``keep``, then end the process."""
    # From here on the process ends in any case, by a thread that needs neither Python nor the storage.
    faulthandler.dump_traceback_later(LAST_WORDS_S, exit=True)
    try:
        stacks = stacks_of_all_threads()
        log_event(
            "train", "hung", run=run_id, rank=rank, phase=phase, waited_s=round(waited_s, 1),
            limit_s=round(limit_s, 1), stack=stacks,
        )  # fmt: skip
        keep(f"stacks-rank{rank}.txt", stacks.encode())
    finally:
        os._exit(EXIT_CODE)


def stacks_of_all_threads() -> str:
    """The stack of every thread, the most recent call first, as ``faulthandler`` writes it; those that run code of
    training come first, for a log line is cut."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        stacks = file.read().decode(errors="replace").strip().split("\n\n")
    return "\n\n".join(sorted(stacks, key=lambda stack: ("train_jobs" not in stack, "watchdog.py" in stack)))
