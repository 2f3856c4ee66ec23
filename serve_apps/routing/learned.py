"""The learned part of ``auto``: whether the small tier's answer will suffice where the rules would ask a larger one.

It is asked only where there is more than one language model to choose from and somebody chose a threshold
(``plinth router tune``): until then nothing of it is read, followed or computed. It may fail in any way; the rules
decide then as they do without it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import IncompatibleError, PlinthError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from serve_apps.gateway.protocols import TierState
from serve_apps.replicas.live import Live
from serve_apps.routing.rules import generative
from train_jobs.answering.difficulty import AUTO_POLICY, LIVE, POLICIES, POLICY, RoutingPolicy

FOLLOW_S = 2.0
WRONG_EMBEDDER = "the index embeds questions by another model than the router was trained with: train one (`plinth "\
                 "train router`) and tune it"  # fmt: skip

# The version of what embeds questions (``ModelFiles.asks``), and a vector for each text.
EmbedQuestions = Callable[[list[str]], Awaitable[tuple[str, list[list[float]]]]]


@dataclass(frozen=True)
class Suffices:
    """What the learned router says of one question.

    Attributes:
        probability: calibrated, that the small tier's answer is as good as the large one's.
        threshold: from which on the small tier is asked.
        router: name and version of what says so.
    """

    probability: float
    threshold: float
    router: str

    @property
    def small(self) -> bool:
        """Whether the small tier is to answer."""
        return self.probability >= self.threshold


class LearnedRouter:
    """Follows the live policy of a store, and judges questions by it.

    Args:
        cache: local folder for copies of remote artefacts.
        write: ``telemetry.log_event``.
    """

    def __init__(self, store: Store, cache: Path, write: Callable[..., None] = log_event) -> None:
        self._store, self._write = store, write
        self._live: Live[RoutingPolicy] = Live("gateway", store, POLICIES, AUTO_POLICY, self._wanted, _load, cache)
        self._chosen: str | None = None
        self._begun: asyncio.Task[bool] | None = None
        self._said: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, home: Home) -> LearnedRouter:
        """The one of this machine's store."""
        return cls(Store(home.store_uri), home.root / "cache")

    @property
    def policy(self) -> RoutingPolicy | None:
        """What is routed by now; None where nobody tuned a router, or switched it off."""
        return self._live.current.thing if self._chosen is not None and self._live.current is not None else None

    @staticmethod
    def chooses(tiers: Sequence[TierState]) -> bool:
        """Whether there is more than one language model to choose from."""
        return len(generative(tiers)) > 1

    async def judge(self, question: str, embed: EmbedQuestions) -> Suffices | None:
        """What is to be said of a question; None where there is no policy, or no vector of the question."""
        await self._following()
        if (policy := self.policy) is None:
            return None
        try:
            asks, vectors = await embed([question])
            if asks != policy.difficulty.embedder:
                raise IncompatibleError(WRONG_EMBEDDER)
            found = float(policy.difficulty.suffices([question], vectors)[0])
        except PlinthError as error:
            self._say(policy.router, str(error))
            return None
        return Suffices(found, policy.threshold, policy.router)

    async def _following(self) -> None:
        """Read the policy before the first question that it may concern, and follow it from then on."""
        if self._begun is None:
            self._begun = asyncio.create_task(asyncio.to_thread(self._live.refresh))
        await asyncio.shield(self._begun)
        self._live.follow(FOLLOW_S)

    def _wanted(self) -> str | None:
        """The live version; while the store does not answer, or the alias is damaged, what it was before."""
        try:
            self._chosen = self._store.alias(POLICIES, AUTO_POLICY, LIVE)
        except (PlinthError, OSError, LookupError, TypeError, ValueError) as error:
            self._say(self._chosen or "none", f"{type(error).__name__}: {error}")
        return self._chosen

    def _say(self, router: str, why: str) -> None:
        """One line in the log for each reason, however many questions it concerns."""
        if self._said != (router, why):
            self._said = (router, why)
            self._write("gateway", "router_not_used", router=router, error=why)


def _load(folder: Path, manifest: Manifest) -> RoutingPolicy:
    del manifest
    try:
        return RoutingPolicy.from_dict(json.loads((folder / POLICY).read_bytes()))
    except ValueError as error:
        raise PlinthError(f"{POLICY} is no JSON: {error}") from error
