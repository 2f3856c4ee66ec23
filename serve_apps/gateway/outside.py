"""Asking a tier that answers outside the house: what leaves has passed the input guard, the passages too.

The question has passed it already. A passage goes out as the guard lets it go on, redacted where it must be; one that
it refuses, or in which something was found when the index was built, stays here, and the answer counts it as dropped.
What is cited are the passages as they are in the index.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from cluster.core.records import Answer
from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.exchange import CheckedAsk
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.inside import without_labelled
from serve_apps.gateway.protocols import Sampling, TierClient
from serve_apps.gateway.request_log import RequestRecord
from train_jobs.answering.citations import cite


async def asked_outside(
    tier: TierClient, asked: CheckedAsk, sampling: Sampling, hops: Hops, record: RequestRecord
) -> AsyncGenerator[str | Answer, None]:
    """What the tier says; as ``TierClient.stream`` and ``complete``.

    Raises:
        UnavailableError: guard or tier is down.
    """
    if asked.continues:
        items = tier.complete(asked.question, sampling)
    else:
        found = await _leaving(asked.retrieval, hops, record)
        items = tier.stream(asked.question, found, sampling)
    passages = {passage.chunk: passage for passage in asked.retrieval.passages}
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Answer) and not asked.continues:
                citations = tuple(cite(passages[one.chunk]) for one in item.citations if one.chunk in passages)
                kept_back = len(asked.retrieval.passages) - len(found.passages)
                item = replace(item, citations=citations, dropped_passages=item.dropped_passages + kept_back)
            yield item


async def _leaving(retrieval: Retrieval, hops: Hops, record: RequestRecord) -> Retrieval:
    """The passages that may leave, as they may; nothing else of the search leaves with them."""
    retrieval = without_labelled(retrieval, record)
    texts = [text for passage in retrieval.passages for text in (passage.title, passage.text)]
    checks = await hops.guard_leaving(texts, record) if texts else []
    titles, bodies = checks[::2], checks[1::2]
    passages = tuple(
        replace(passage, title=title.text, text=body.text)
        for passage, title, body in zip(retrieval.passages, titles, bodies, strict=True)
    )
    kept = [
        n for n, (title, body) in enumerate(zip(titles, bodies, strict=True)) if not (title.blocked or body.blocked)
    ]
    return replace(retrieval, passages=passages).only(kept)
