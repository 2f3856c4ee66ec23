"""Writing what no request waits for: handed over at once, written in batches by another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from cluster.core.errors import EnvironmentFaultError
from cluster.core.telemetry import log_event

T = TypeVar("T")
MOST_WAITING = 10_000
APART_S = 0.2  # between the beginnings of two batches: each costs about as much as twenty of what is in it


class Later(Generic[T]):
    """One batch is written at a time, and whatever comes within ``APART_S`` of its beginning is the next one. For one
    event loop.

    Args:
        write: takes a batch; may block. EnvironmentFaultError: it is lost, which the log says once, until one is not.
        what: is written, as the log calls it.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], object], what: str, log: Callable[..., None] = log_event,
        most: int = MOST_WAITING,
    ) -> None:  # fmt: skip
        self._write, self._what, self._log, self._most = write, what, log, most
        self._waiting: list[T] = []
        self._task: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()
        self._next_at = 0.0
        self._failing = False

    def put(self, one: T) -> None:
        """Have it written soon. Never waits, never raises; beyond ``most`` that wait it is lost."""
        if len(self._waiting) >= self._most:
            self._lost("too much waits")
            return
        self._waiting.append(one)
        if self._task is None or self._task.done():
            self._urgent = asyncio.Event()  # of the loop that runs now
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def settled(self) -> None:
        """Return once all that was handed over before is written or lost."""
        if self._task is not None and not self._task.done():
            self._urgent.set()
            await asyncio.wait({self._task})

    async def _work(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next_at):
                    await self._urgent.wait()
            self._urgent.clear()
            self._next_at = asyncio.get_running_loop().time() + APART_S
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, batch)
                self._failing = False
            except EnvironmentFaultError as error:
                self._lost(error.message)

    def _lost(self, why: str) -> None:
        if not self._failing:
            self._log("gateway", "not_written", what=self._what, error=why)
        self._failing = True
