"""The gateway's handles over Serve's own machinery, in this process: methods, options and traces that Serve takes."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

pytest.importorskip("ray")
from ray import serve

from cluster.core.config import PlinthConfig
from cluster.core.sections.tiers import QUOTE
from cluster.core.trace import CURRENT, Trace
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import ApiError, collection_not_found
from serve_apps.gateway.handles import GuardHandle, RetrieverHandle, WholeTierHandle
from serve_apps.gateway.protocols import Sampling
from serve_apps.replicas.guard import GuardReplica
from serve_apps.replicas.quote import QuoteReplica, quote_state
from serve_apps.replicas.traced import traced
from tests.train_jobs.answering.retrievals import COPYING, retrieval

pytestmark = pytest.mark.process
CONFIG, QUESTION = PlinthConfig(), "How do I copy a directory tree?"


class Finds:
    """A retriever as a deployment has it."""

    async def search(self, question: str, k: int | None, collection: str, rights: Any) -> Retrieval:
        if question == "nothing":
            raise collection_not_found("x", ["y"])
        return retrieval(question, COPYING)

    async def search_many(self, searches: list[Any]) -> list[Retrieval | BaseException]:
        work = [self.search(*arguments, **trace) for *arguments, trace in searches]
        return await asyncio.gather(*work, return_exceptions=True)


def deployed(kind: type, methods: tuple[str, ...], *arguments: Any) -> Any:
    deployment: Any = serve.deployment(traced("part", *methods)(type(kind.__name__, (kind,), {})))
    app = deployment.bind(*arguments)
    return serve.run(app, name=kind.__name__, route_prefix=None, _local_testing_mode=True)


def test_calls_alone_and_together_come_back_as_they_were_sent(home: Any) -> None:
    guard = GuardHandle(deployed(GuardReplica, ("check_input", "check_output"), CONFIG), 1)
    retriever = RetrieverHandle(deployed(Finds, ("search",)), 1)
    quote = deployed(QuoteReplica, ("stream", "complete"), CONFIG, QUOTE)
    tier = WholeTierHandle(quote_state(CONFIG, QUOTE), quote, 1)

    async def say(found: Retrieval) -> list[Any]:
        return [item async for item in tier.stream(found.question, found, Sampling())]

    async def scene() -> None:
        CURRENT.set(Trace.new())
        mail = ["write to ann.other@acme-corp.com"]
        checks = await asyncio.gather(*(guard.check_input(mail) for _ in range(4)), guard.check_output(mail))
        assert [one[0].text for one in checks[:4]] == ["write to <EMAIL_1>"] * 4
        assert checks[4][0].spans
        asked = ("a", "b", "nothing", QUESTION, QUESTION)
        found = await asyncio.gather(*(retriever.search(one, None) for one in asked), return_exceptions=True)
        assert [type(one) for one in found] == [Retrieval, Retrieval, ApiError, Retrieval, Retrieval]
        said = await asyncio.gather(*(say(found[-1]) for _ in range(4)))
        assert {one.text for (one,) in said} == {said[0][0].text}
        assert "copytree" in said[0][0].text
        for sent in (checks, found[:2], said):  # as they cross the wire
            assert pickle.loads(pickle.dumps(sent)) == sent

    asyncio.run(asyncio.wait_for(scene(), 60))
