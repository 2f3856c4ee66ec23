"""Calls of several requests at once: each gets what it would get alone, and an error is that of its request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cluster.core.access import NO_RIGHTS
from cluster.core.config import PlinthConfig
from cluster.core.sections.tiers import QUOTE
from cluster.core.storage import Store
from serve_apps.errors import ApiError
from serve_apps.gateway.protocols import Sampling
from serve_apps.guards.protocol import IN, OUT, InputCheck
from serve_apps.replicas.guard import GuardReplica
from serve_apps.replicas.quote import QuoteReplica
from serve_apps.replicas.retriever import RetrieverReplica
from serve_apps.scaling.load import TEXTS as IN_FLIGHT
from tests.data_jobs.hash_embedder import HashEmbedder
from tests.serve_apps.replicas.test_forgotten import NOTES, config, published
from tests.train_jobs.answering.retrievals import COPYING, retrieval

TEXTS = ["write to ann.other@acme-corp.com", "again ann.other@acme-corp.com", "nothing here"]


def test_several_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        guard = GuardReplica(PlinthConfig())
        check = guard._chain.check_input

        def breaks(texts: list[str]) -> list[InputCheck]:
            if "poison" in texts:
                raise ZeroDivisionError("a bug in the guard")
            return check(texts)

        monkeypatch.setattr(guard._chain, "check_input", breaks)
        found = await guard.check_many(
            [(IN, TEXTS[:2], {}), (IN, ["poison"], {}), (OUT, TEXTS, {}), (IN, TEXTS[1:], {})]
        )
        assert found[0] == await guard.check_input(TEXTS[:2])
        assert isinstance(found[1], ZeroDivisionError)
        assert found[2] == await guard.check_output(TEXTS)
        assert found[3] == await guard.check_input(TEXTS[1:])
        assert "<EMAIL_1>" in str(found[3]), "placeholders are counted within each request"

    asyncio.run(scene())


def test_several_searches(store: Store, embedder: HashEmbedder) -> None:
    published(store, embedder, NOTES)

    async def scene() -> None:
        replica = RetrieverReplica(config())
        asked = [("cat on the roof", None, "", NO_RIGHTS), ("fish", 1, "", NO_RIGHTS), ("cat", None, "no", NO_RIGHTS)]
        found = await replica.search_many([(*one, {}) for one in asked])
        for made, one in zip(found[:2], asked[:2], strict=True):
            alone = await replica.search(*one)
            assert not isinstance(made, BaseException)
            assert alone.passages
            assert replace(made, timings_ms={}) == replace(alone, timings_ms={})
        assert isinstance(found[2], ApiError)

    asyncio.run(scene())


def test_a_search_waits_for_a_few_of_the_texts_that_somebody_has_embedded(
    store: Store, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(store, embedder, NOTES)
    texts = [f"text {n}" for n in range(40)]

    async def scene() -> None:
        replica = RetrieverReplica(config())
        await replica.search("warm up")
        encode, first, go_on, seen = replica._embedder.encode, threading.Event(), threading.Event(), list[str]()

        def watched(given: Sequence[str], kind: str = "document") -> Any:
            first.set()
            assert go_on.wait(20)
            seen.extend(given)
            return encode(given, kind)  # type: ignore[arg-type]

        monkeypatch.setattr(replica._embedder, "encode", watched)
        embedded = asyncio.create_task(replica.embed(texts))
        while not first.is_set():
            await asyncio.sleep(0)
        assert replica.load.stats()[IN_FLIGHT] == len(texts)
        search = asyncio.create_task(replica.search("fish in the cold pond"))
        while not replica._searches._at_work:
            await asyncio.sleep(0)
        go_on.set()
        assert (await search).passages[0].document == "fish.md"
        assert not embedded.done()
        assert seen.index("fish in the cold pond") < 5
        assert await embedded == encode(texts).tolist(), "in their order"
        assert replica.load.stats()[IN_FLIGHT] == 0

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_several_answers() -> None:
    async def scene() -> None:
        tier = QuoteReplica(PlinthConfig(), QUOTE)
        found = retrieval("How do I copy a directory tree?", COPYING)
        broken = replace(found, passages=None)  # type: ignore[arg-type]
        asked = [(found.question, found, Sampling()), ("What?", broken, Sampling()), ("Why?", found, Sampling())]
        made = await tier.answer_many([(*one, {}) for one in asked])
        for place in (0, 2):
            assert made[place] == [item async for item in tier.stream(*asked[place])][-1]
        assert isinstance(made[1], TypeError)

    asyncio.run(scene())
