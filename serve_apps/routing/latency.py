"""What an answer of a tier costs in time, measured while it serves: the router's price of it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from cluster.core.records import Answer

PRICE_MEMORY = 20  # answers


class Price:
    """Milliseconds of one answer with nothing else going on, as measured here: a mean that forgets slowly.

    Answers given beside others are left out: they show the load, which the router counts by itself.
    """

    def __init__(self) -> None:
        self.ms = 0.0
        self._seen = 0

    def add(self, ms: float) -> None:
        self._seen = min(self._seen + 1, PRICE_MEMORY)
        self.ms += (ms - self.ms) / self._seen


class Counter:
    """Counts the answers under way of one tier, and prices those that were alone."""

    def __init__(self) -> None:
        self.ongoing, self.price = 0, Price()
        self._started = 0

    async def through(
        self, spoken: AsyncGenerator[str | Answer, None], priced: bool = True
    ) -> AsyncGenerator[str | Answer, None]:
        began, alone = time.perf_counter(), self.ongoing == 0
        self.ongoing += 1
        self._started += 1
        mine = self._started
        try:
            async with aclosing(spoken) as items:
                async for item in items:
                    yield item
            if priced and alone and self._started == mine:
                self.price.add((time.perf_counter() - began) * 1000)
        finally:
            self.ongoing -= 1
