"""Asking a language model of this house: passages that say something to the model are kept out of its prompt.

Who writes a document must not steer who reads it. Quoted passages do nothing, so the tier that quotes still has them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from cluster.core.records import Answer, Verdict
from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.exchange import CheckedAsk
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.protocols import Sampling, TierClient
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.guards.policy import is_injection
from serve_apps.guards.protocol import PASSAGES


async def asked_inside(
    tier: TierClient, asked: CheckedAsk, sampling: Sampling, hops: Hops, record: RequestRecord
) -> AsyncGenerator[str | Answer, None]:
    """What the tier says of the passages that may stand in a prompt; as ``TierClient.stream``.

    Raises:
        UnavailableError: guard or tier is down.
    """
    found = await _harmless(asked.retrieval, hops, record)
    kept_out = len(asked.retrieval.passages) - len(found.passages)
    async with aclosing(tier.stream(asked.question, found, sampling)) as items:
        async for item in items:
            if isinstance(item, Answer) and kept_out:
                item = replace(item, dropped_passages=item.dropped_passages + kept_out)
            yield item


async def _harmless(retrieval: Retrieval, hops: Hops, record: RequestRecord) -> Retrieval:
    """The search without the passages in which a rule finds an injection; a verdict tells of each rule."""
    texts = [f"{passage.title}\n{passage.text}" for passage in retrieval.passages]
    checks = await hops.guard_leaving(texts, record) if texts else []
    found = [[verdict for verdict in check.verdicts if is_injection(verdict)] for check in checks]
    kept = [place for place, verdicts in enumerate(found) if not verdicts]
    if len(kept) == len(texts):
        return retrieval
    record.judged(tuple(
        Verdict(PASSAGES, "redact", verdict.rule, f"a passage was kept out of the prompt: {verdict.detail}",
                guard=verdict.guard, version=verdict.version)
        for verdicts in found for verdict in verdicts
    ))  # fmt: skip
    return retrieval.only(kept)
