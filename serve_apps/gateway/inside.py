"""Asking a language model of this house: passages that say something to the model are kept out of its prompt.

Who writes a document must not steer who reads it. Quoted passages do nothing, so the tier that quotes still has them.
What was found when the index was built counts; a passage that nobody scanned by today's rules is scanned here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from cluster.core.records import Answer, Passage, Verdict
from data_jobs.retrieval.results import Retrieval
from data_jobs.safety.passages import marks, scan_version, text_of, told
from serve_apps.gateway.exchange import CheckedAsk
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.protocols import Sampling, TierClient
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.guards.policy import is_injection
from serve_apps.guards.protocol import PASSAGES
from serve_apps.guards.rules import RulesGuard


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
    """The search without the passages in which a scan finds what no prompt may hold; a verdict tells of each finding.

    Raises:
        UnavailableError: one has to be scanned, and the guard is down.
    """
    labelled = without_labelled(retrieval, record)
    texts = [text_of(passage) for passage in labelled.passages]
    unsure = [place for place, passage in enumerate(labelled.passages) if passage.scanned != scan_version()]
    checks = await hops.guard_leaving([texts[place] for place in unsure], record) if unsure else []
    found: list[tuple[Verdict, ...]] = [()] * len(texts)
    for place, check in zip(unsure, checks, strict=True):
        by_rules = (_kept_out(one.rule, one.version) for one in check.verdicts if is_injection(one))
        found[place] = (*by_rules, *(_kept_out(mark, scan_version()) for mark in marks(texts[place])))
    return _without(labelled, found, record)


def without_labelled(retrieval: Retrieval, record: RequestRecord) -> Retrieval:
    """The search without the passages in which something was found when the index was built."""
    return _without(retrieval, [_labels(passage) for passage in retrieval.passages], record)


def _labels(passage: Passage) -> tuple[Verdict, ...]:
    return tuple(_kept_out(finding, passage.scanned) for finding in passage.findings)


def _kept_out(finding: str, version: str) -> Verdict:
    rule, why = told(finding)
    return Verdict(PASSAGES, "redact", rule, f"a passage was kept out of the prompt: {why}", guard=RulesGuard.name,
                   version=version)  # fmt: skip


def _without(retrieval: Retrieval, found: Sequence[Sequence[Verdict]], record: RequestRecord) -> Retrieval:
    kept = [place for place, verdicts in enumerate(found) if not verdicts]
    if len(kept) == len(found):
        return retrieval
    record.judged(tuple(verdict for verdicts in found for verdict in verdicts))
    return retrieval.only(kept)
