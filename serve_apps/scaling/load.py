"""What one replica has in flight, and how long work waits in it until it is begun. Pure; may be used by any thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

REQUESTS, TEXTS, TOKENS = "requests", "texts", "tokens"  # what is counted; requests Serve counts by itself
WAIT = "wait_s"
WINDOW_S = 5.0  # waits that ended longer ago say nothing of now


class Load:
    """Counts work in a unit of the replica's own: tokens, texts.

    Args:
        unit: what it is called in ``stats``; "" where only waits count.
        clock: seconds that do not go back.
    """

    def __init__(self, unit: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._unit, self._clock, self._lock = unit, clock, threading.Lock()
        self._inside = 0.0
        self._ended: deque[tuple[float, float]] = deque()  # (when a wait ended, how long it was)
        self._waiting: dict[Work, float] = {}

    def begin(self, units: float) -> Work:
        """So much is in flight until ``Work.end``, and it waits until ``Work.begun``."""
        work = Work(self, units)
        with self._lock:
            self._inside += units
            self._waiting[work] = self._clock()
        return work

    @contextmanager
    def doing(self, units: float) -> Iterator[Work]:
        """``begin`` for as long as the block lasts."""
        work = self.begin(units)
        try:
            yield work
        finally:
            work.end()

    def stats(self) -> dict[str, float]:
        """What Serve asks a replica for (``record_autoscaling_stats``): the units in flight, and ``wait_s``: the mean
        of the waits that ended lately and of those that go on, in seconds."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            waits = [wait for _, wait in self._ended] + [now - came for came in self._waiting.values()]
            found = {WAIT: sum(waits) / len(waits) if waits else 0.0}
            return {**found, self._unit: max(0.0, self._inside)} if self._unit else found

    def _begun(self, work: Work) -> None:
        with self._lock:
            if (came := self._waiting.pop(work, None)) is not None:
                now = self._clock()
                self._ended.append((now, now - came))
                self._forget(now)

    def _forget(self, now: float) -> None:
        while self._ended and now - self._ended[0][0] > WINDOW_S:
            self._ended.popleft()

    def _end(self, work: Work) -> None:
        with self._lock:
            self._waiting.pop(work, None)
            self._inside -= work.left
            work.left = 0.0

    def _less(self, work: Work, units: float) -> None:
        with self._lock:
            done = min(units, work.left)
            work.left -= done
            self._inside -= done


class Work:
    """One piece of work in flight; ``left`` is what remains of its units."""

    def __init__(self, load: Load, units: float) -> None:
        self._load, self.left = load, units

    def begun(self) -> None:
        """It waits no more. Later calls do nothing."""
        self._load._begun(self)

    def less(self, units: float) -> None:
        """So much of it is done."""
        self._load._less(self, units)

    def end(self) -> None:
        """It is in flight no more. How long it would have waited that was never begun, nobody knows."""
        self._load._end(self)


class CountedThreads(ThreadPoolExecutor):
    """A pool of threads that tells how much it was asked for and how long calls wait for a thread.

    A call is one unit of work, and one whose first argument is a list as many as the list is long.

    Args:
        load: where it tells it.
    """

    def __init__(self, load: Load, max_workers: int, thread_name_prefix: str = "") -> None:
        super().__init__(max_workers, thread_name_prefix)
        self._load = load

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As that of a ``ThreadPoolExecutor``."""
        work = self._load.begin(len(args[0]) if args and isinstance(args[0], list) else 1)

        def counted() -> Any:
            work.begun()
            return fn(*args, **kwargs)

        future = super().submit(counted)
        future.add_done_callback(lambda _: work.end())
        return future

    def submit_uncounted(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """A call whose work somebody else counts."""
        return super().submit(fn, *args)
