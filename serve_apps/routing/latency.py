"""How long a tier takes for an answer, measured while it serves, and how many it is giving right now."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from cluster.core.records import Answer

LATENCY_MEMORY = 20  # answers


class Latency:
    """Milliseconds of one answer with nothing else going on, as measured here: a mean that forgets slowly.

    Answers given beside others are left out: they show the load, which the router counts by itself.
    """

    def __init__(self) -> None:
        self.ms = 0.0
        self._seen = 0

    def add(self, ms: float) -> None:
        """Take one more measurement into the mean."""
        self._seen = min(self._seen + 1, LATENCY_MEMORY)
        self.ms += (ms - self.ms) / self._seen


class TierLoad:
    """Counts the answers under way of one tier, and measures those that were alone."""

    def __init__(self) -> None:
        self.ongoing, self.latency = 0, Latency()
        self._started = 0

    async def through(
        self, spoken: AsyncGenerator[str | Answer, None], measured: bool = True
    ) -> AsyncGenerator[str | Answer, None]:
        """The same items; the answer counts as under way until its last one, and is timed if ``measured``."""
        began, alone = time.perf_counter(), self.ongoing == 0
        self.ongoing += 1
        self._started += 1
        mine = self._started
        try:
            async with aclosing(spoken) as items:
                async for item in items:
                    yield item
            if measured and alone and self._started == mine:
                self.latency.add((time.perf_counter() - began) * 1000)
        finally:
            self.ongoing -= 1
