"""How long work tells what it is doing, without knowing who listens (a progress bar, a log, nobody)."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

FIRST_TICK_S, TICK_S = 2.0, 15.0


class Progress(Protocol):
    """Stages come one after the other; ``total`` is in ``unit`` and may be unknown."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        """A stage begins; ``total`` is how much there is to do in it, where that is known, counted in ``unit``."""
        ...

    def advance(self, amount: int = 1) -> None:
        """So much more of the stage is done."""
        ...

    def counts(self, **counts: float) -> None:
        """Numbers to show beside the stage; later ones replace earlier ones of the same name."""
        ...

    def waits(self, what: str) -> None:
        """The stage cannot begin before something else happens: what it waits for, "" once it waits no more."""
        ...


class Silent:
    """Listens to nothing."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        del name, total, unit

    def advance(self, amount: int = 1) -> None:
        del amount

    def counts(self, **counts: float) -> None:
        del counts

    def waits(self, what: str) -> None:
        del what


@dataclass
class Steps:
    """How far a stage is: ``done`` of ``total`` (None: unknown) in ``unit``, since ``began`` (monotonic seconds)."""

    name: str = ""
    total: int | None = None
    unit: str = ""
    began: float = 0.0
    done: int = 0
    detail: str = ""

    def line(self, stage: str, started: float, now: float) -> str:
        """What a log says of it, of a job's ``stage`` since ``started``: count, rate, time left as far as known."""
        parts = [f"{now - started:.0f} s so far"]
        rate = self.done / max(1e-9, now - self.began)
        if self.total:
            parts.append(f"{self.done:,} of {self.total:,} {self.unit}".rstrip())
        elif self.done:
            parts.append(f"{self.done:,} {self.unit}".rstrip())
        if self.done:
            parts.append(f"{rate:,.1f} a second")
        if self.total and 0 < self.done < self.total:
            parts.append(f"{(self.total - self.done) / rate:.0f} s left")
        if self.detail:
            parts.append(self.detail)
        head = f"{stage}: {self.name}" if self.name and self.name != stage else stage
        return f"{head}: {', '.join(parts)}"

    def tell(self, counts: dict[str, float]) -> None:
        """Show these numbers beside the stage."""
        self.detail = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in counts.items())


@contextmanager
def ticking(tell: Callable[[], None], first_s: float, tick_s: float) -> Iterator[None]:
    """``tell`` is called after ``first_s`` seconds, then in pauses that double up to ``tick_s``, by a thread: whatever
    the block waits for."""
    ended = threading.Event()

    def tick() -> None:
        pause = min(first_s, tick_s)
        while not ended.wait(pause):
            pause = min(2 * pause, tick_s)
            tell()

    thread = threading.Thread(target=tick, name="progress-tick", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Lines:
    """Writes to stderr how far a job is: what a log shows of it, and who follows a submitted job.

    Args:
        job: its name, at the head of every line; follower: is told all of it as well.
    """

    def __init__(self, job: str, follower: Progress) -> None:
        self._job, self._follower = job, follower
        self._started = time.monotonic()
        self._steps = Steps(began=self._started)

    @contextmanager
    def written(self) -> Iterator[Lines]:
        """Lines are written within the block, as ``ticking`` calls for them."""
        with ticking(self._write, FIRST_TICK_S, TICK_S):
            yield self

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._follower.stage(name, total, unit)
        self._steps = Steps(name, total, unit, began=time.monotonic())

    def advance(self, amount: int = 1) -> None:
        self._follower.advance(amount)
        self._steps.done += amount

    def counts(self, **counts: float) -> None:
        self._follower.counts(**counts)
        self._steps.tell(counts)

    def waits(self, what: str) -> None:
        self._follower.waits(what)
        self._steps.detail = what

    def _write(self) -> None:
        print(self._steps.line(self._job, self._started, time.monotonic()), file=sys.stderr, flush=True)
