"""A tier of kind `quote` as a plain class: it answers in the words of the retrieved passages, without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from cluster.core.code import source_hash
from cluster.core.config import PlinthConfig
from cluster.core.records import Answer, stable_hash
from cluster.core.sections.tiers import TierConfig
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import Sampling, TierState
from train_jobs.answering.quote import answer

if TYPE_CHECKING:
    from data_jobs.retrieval.results import Retrieval


def quote_state(config: PlinthConfig, tier: TierConfig) -> TierState:
    """What the router knows of such a tier, which nothing changes while it runs. Its version is that of its code and
    answer settings. Only the fallback answers `auto`: no gate has compared another one with it."""
    settings = tier.answers(config.answer).model_dump()
    version = stable_hash({"code": source_hash("train_jobs.answering.quote"), "answer": settings})
    return TierState(tier.name, earned=tier.fallback, fallback=tier.fallback, model_version=version, price=tier.price)


class QuoteReplica:
    """Answers by quoting the retrieved passages."""

    def __init__(self, config: PlinthConfig, tier: TierConfig) -> None:
        self._section, self._state = tier.answers(config.answer), quote_state(config, tier)

    async def state(self) -> TierState:
        """What the gateway's router should know."""
        return self._state

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """One Answer, whole. ``sampling`` has nothing to act on; limits and stop sequences are the gateway's."""
        del sampling
        yield answer(question, retrieval, self._section)

    async def answer_many(
        self, asked: list[tuple[str, Retrieval, Sampling, dict[str, Any]]]
    ) -> list[Answer | BaseException]:
        """The answers to several requests: arguments of ``stream``, and whose trace (its keywords). The answer to
        each, or what went wrong with it, in their order."""

        async def whole(question: str, retrieval: Retrieval, sampling: Sampling, trace: dict[str, Any]) -> Answer:
            said = self.stream(question, retrieval, sampling, **trace)
            return [item async for item in said if isinstance(item, Answer)][-1]

        return await asyncio.gather(*(whole(*one) for one in asked), return_exceptions=True)

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """Refuses: no language model is here.

        Raises:
            UnavailableError: always.
        """
        raise UnavailableError(f"the tier {self._state.name} is no language model: it continues nothing")
        yield  # a generator, as the protocol wants
