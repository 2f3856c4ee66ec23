"""A page that is costly to make, made once for all who ask at the same time, in this process and in others."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.core.home import write_private
from cluster.core.telemetry import log_event


def keep(path: Path, text: str) -> None:
    """Write ``text`` atomically. A full disk costs what was to be remembered, not the page."""
    try:
        write_private(path, text)
    except OSError as error:
        log_event("gateway", "metrics_not_kept", path=str(path), error=str(error))


class SharedPage:
    """Callable that returns the page: as it was made last, where that is recent, else anew.

    Args:
        folder: of this page alone; all processes of one machine that have the same folder share it.
        make: makes the page; never called by two at once. What it raises is raised to all who wait.
        fresh_s: for so long a page is given out again.
    """

    def __init__(self, folder: Path, make: Callable[[], Awaitable[str]], fresh_s: float) -> None:
        self._path, self._lock, self._make, self._fresh_s = folder / "page", folder / "lock", make, fresh_s
        self._making: asyncio.Task[str] | None = None

    async def __call__(self) -> str:
        """The page. Who stops waiting for it does not stop the others.

        Raises:
            Exception: what ``make`` raised.
        """
        if self._making is None or self._making.done():
            self._making = asyncio.get_running_loop().create_task(self._recent())
        return await asyncio.shield(self._making)

    async def _recent(self) -> str:
        if (kept := await asyncio.to_thread(self._kept)) is not None:
            return kept
        async with self._alone():
            if (kept := await asyncio.to_thread(self._kept)) is not None:
                return kept  # another process made it meanwhile
            made = await self._make()
            await asyncio.to_thread(keep, self._path, made)
            return made

    def _kept(self) -> str | None:
        try:
            age = time.time() - self._path.stat().st_mtime
            return self._path.read_text() if 0 <= age <= self._fresh_s else None
        except FileNotFoundError:
            return None

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
