"""A gateway in this process, over one index in memory: its own guard, search, quote tier and kept answers, no hops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.config import PlinthConfig
from cluster.core.records import Answer
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.tiers import AUTO, QUOTE
from data_jobs.pii import MAX_ENTITY_CHARS
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.examples import Example, example_questions, topics
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.search import Searcher
from serve_apps.gateway.cache_key import Versions
from serve_apps.gateway.exchange import Ask
from serve_apps.gateway.gateway import Gateway
from serve_apps.gateway.protocols import Sampling
from serve_apps.gateway.request_log import Journal, RequestRecord
from serve_apps.replicas.guard import GuardReplica
from serve_apps.replicas.quote import QuoteReplica, quote_state
from serve_apps.routing.features import features_of
from train_jobs.answering.conversation import standalone_question
from train_jobs.answering.quote import answer


@dataclass(frozen=True)
class Served:
    """What became of one request: what the kept answers were to it (``hit``, ``miss``, ``bypass``), the cosine where
    it was given the answer to another question, and the milliseconds it took."""

    cache: str
    alike: float | None
    ms: float


class _Retriever:
    """``RetrieverClient`` of one collection."""

    def __init__(self, searcher: Searcher, embedder: Embedder, name: str) -> None:
        self._searcher, self._embedder, self._name = searcher, embedder, name

    async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Retrieval:
        del collection, rights  # there is one, and anybody may read it
        found = await asyncio.to_thread(self._searcher.search, question, k)
        return replace(found, collection=self._name)

    async def embed(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = self._embedder.encode(texts).tolist()
        return found

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        return self._embedder.asks, self._embedder.encode(texts, kind="query").tolist()

    async def info(self) -> dict[str, Any]:
        return {"collection": self._name, "index_version": self._searcher.snapshot.version}

    async def collections(self) -> list[dict[str, Any]]:
        return [{**await self.info(), "default": True, "loaded": True, "forgotten": 0, "access": None}]

    async def examples(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> tuple[str, list[Example]]:
        snapshot = self._searcher.snapshot
        return snapshot.version, example_questions(snapshot, self._searcher.hidden.tolist(), count)

    async def topics(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> list[str]:
        return topics(self._searcher.snapshot, self._searcher.hidden.tolist(), count)


class _QuoteTier:
    """``TierClient`` of the tier that quotes."""

    def __init__(self, config: PlinthConfig) -> None:
        self.state, self._replica = quote_state(config, QUOTE), QuoteReplica(config, QUOTE)

    async def refresh(self) -> None:
        """It is what it is."""

    def wake(self) -> None:
        """It is awake."""

    def stream(self, question: str, retrieval: Retrieval, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        return self._replica.stream(question, retrieval, sampling)

    def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        return self._replica.complete(prompt, sampling)


class _Unmeasured:
    def record(self, metric: str, value: float, labels: dict[str, str]) -> None:
        """Measured by whoever asks here."""


def gateway_over(searcher: Searcher, embedder: Embedder, config: PlinthConfig, section: ServeSection) -> Gateway:
    """A gateway of these settings (``section`` in place of ``config.serve``) that answers from one index."""
    return Gateway(
        section,
        guard=GuardReplica(config),
        retriever=_Retriever(searcher, embedder, "faq"),
        tiers={QUOTE.name: _QuoteTier(config)},
        embedding_model="embedder",
        question_of=standalone_question,
        longest_finding=MAX_ENTITY_CHARS,
        journal=Journal(_Unmeasured(), lambda *said, **more: None),
        features_of=partial(features_of, section=config.answer),
        versions=Versions.of(config, "in process"),
        quote_of=partial(answer, section=config.answer),
    )


async def serve_all(gateway: Gateway, questions: Sequence[str]) -> list[Served]:
    """Ask one question after the other, each by itself, and take the time until its answer is whole."""
    found = []
    for number, question in enumerate(questions):
        record = RequestRecord(f"req_{number}")
        begun = time.perf_counter()
        _ = [one async for one in gateway.answer(Ask(AUTO, (("user", question),), Sampling()), record)]
        found.append(Served(record.cache, record.alike, (time.perf_counter() - begun) * 1000))
    return found
