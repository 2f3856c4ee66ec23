"""A tier that may have no replica at all, as the gateway sees it: left alone while nobody needs it, woken when somebody
does. Its first answers come from another tier meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.core.records import Answer
from serve_apps.gateway.protocols import Sampling, TierClient, TierState

if TYPE_CHECKING:
    from data_jobs.retrieval.results import Retrieval

WAKE_S = 300.0  # what has not started by then is asked for anew by the next request
ASK_S = 0.5


class SleepingTier:
    """``TierClient`` over the one of a tier with ``min_replicas=0``.

    What its replicas last said is kept while none is there. Asking them what they serve would keep them awake, so that
    ends ``quiet_s`` after the last use: they are taken for asleep from then on, whether they are or not. The first one,
    which a deployment starts with, tells what there is to choose.

    Args:
        quiet_s: less than what the scaling waits for without any work (``serve.scaling.zero_after_s``).
    """

    def __init__(self, tier: TierClient, quiet_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tier, self._quiet_s, self._clock = tier, quiet_s, clock
        self._known = tier.state
        self._used_at = clock()
        self._waking: asyncio.Task[None] | None = None

    @property
    def _asleep(self) -> bool:
        waking = self._waking is not None and not self._waking.done()
        return self._known.ready and (waking or self._clock() - self._used_at > self._quiet_s)

    @property
    def state(self) -> TierState:
        """What its replicas say, or last said; the answer to the last question may have come since."""
        now = self._tier.state
        return replace(now if now.ready else self._known, asleep=True) if self._asleep else now

    async def refresh(self) -> None:
        """See ``TierClient``; who sleeps is not asked."""
        if self._asleep:
            return
        await self._tier.refresh()
        if self._tier.state.ready:
            self._used_at = self._used_at if self._known.ready else self._clock()
            self._known = self._tier.state

    def wake(self) -> None:
        """See ``TierClient``."""
        if self._asleep and (self._waking is None or self._waking.done()):
            self._waking = asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        """Ask until a replica answers: Serve starts one for whoever finds none."""
        deadline = self._clock() + WAKE_S
        while self._clock() < deadline:
            await self._tier.refresh()
            if self._tier.state.ready:
                self._known, self._used_at = self._tier.state, self._clock()
                return
            await asyncio.sleep(ASK_S)

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """See ``TierClient``. Who asks for a sleeping tier by its name waits for it."""
        self._use()
        async with aclosing(self._tier.stream(question, retrieval, sampling)) as items:
            async for item in items:
                yield item

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """See ``TierClient``."""
        self._use()
        async with aclosing(self._tier.complete(prompt, sampling)) as items:
            async for item in items:
                yield item

    def _use(self) -> None:
        self.wake()
        self._used_at = self._clock()
