"""The guard's replica as a plain class: the configured chain in a thread of its own, what takes long in another."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.core.config import PlinthConfig
from serve_apps.guards.chain import guard_chain
from serve_apps.guards.protocol import IN, InputCheck, OutputCheck
from serve_apps.scaling.load import CountedThreads, Load

LONG_CHARS = 12_000  # of texts that are checked by rules alone: with more they are no passages of an answer


class GuardReplica:
    """Checks what comes in and what goes out. Stateless, but for the heads that are in force."""

    def __init__(self, config: PlinthConfig) -> None:
        self._chain = guard_chain(config)
        self._rules = self._chain.without_classifier()
        # A thread for each chain: guards need not be thread-safe, and a slow one must not stall the replica's health
        # checks. A question, which takes two milliseconds, does not wait for pages that somebody has embedded.
        self.load = Load()
        self._work = CountedThreads(self.load, 1, thread_name_prefix="guard")
        self._long = guard_chain(config, classifier=False)
        self._long_work = CountedThreads(self.load, 1, thread_name_prefix="guard-long")

    async def check_input(self, texts: list[str], prompts: bool = True) -> list[InputCheck]:
        """The texts of one request as they may go on, with the verdicts on each; see ``GuardClient``."""
        chain, work = (self._chain if prompts else self._rules), self._work
        if not prompts and sum(map(len, texts)) > LONG_CHARS:
            chain, work = self._long, self._long_work
        return await asyncio.get_running_loop().run_in_executor(work, chain.check_input, texts)

    async def check_output(self, texts: list[str]) -> list[OutputCheck]:
        """What must not leave in these texts."""
        return await asyncio.get_running_loop().run_in_executor(self._work, self._chain.check_output, texts)

    async def check_many(
        self, checks: list[tuple[str, list[str], dict[str, Any]]]
    ) -> list[list[InputCheck] | list[OutputCheck] | BaseException]:
        """What several requests want checked: the stage, the texts, and whose trace (keywords of ``check_input``).
        The result of each, or what went wrong with it, in their order."""

        async def check(stage: str, texts: list[str], trace: dict[str, Any]) -> list[InputCheck] | list[OutputCheck]:
            if stage == IN:
                return await self.check_input(texts, **trace)
            return await self.check_output(texts, **trace)

        return await asyncio.gather(*(check(*one) for one in checks), return_exceptions=True)

    async def check_health(self) -> None:
        """Serve calls this every few seconds: it also (re)starts the follower, which needs the running loop."""
        self._chain.follow()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls this every second where the number of replicas follows the load."""
        return self.load.stats()
