"""Whether an answer that its passages do not bear out goes on to the next larger tier: pure, each part with its reason.

A tier is asked first because it measured well enough for what it costs. It is wrong now and then, and sometimes shows
it: it does not know though the passages support an answer, it cites nothing, or it cites other passages than the one in
which the reader is sure to see the answer. Then the next larger tier is asked instead, once (after "cascades" of
FrugalGPT, Chen et al. 2023; the scorer here is the grounding itself). Where the passages carry no answer a larger model
would only invent one, so nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.core.records import Answer
from cluster.core.sections.cascade import CascadeSection
from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.protocols import TierState
from serve_apps.routing.rules import AS_GOOD, generative, overall, rounds

ESCALATED = "escalated"
BESIDE_READER = "beside_reader"
# What ends an answer without saying that there is none: another model may do better with the same passages.
DOUBTS = ("model_abstained", "model_unreadable", "uncited", "nothing_quotable")
# Reasons of a route whose answer is taken as it is: somebody named the tier, or it is the second one asked already.
FINAL = ("requested", "fallback", "switched_off", "model_abstained", ESCALATED)
SURE = 0.9  # least calibrated probability that a window answers, for an answer beside it to be doubted


def next_tier(
    chosen: TierState, tiers: Sequence[TierState], section: CascadeSection, allowed: Sequence[str] = ()
) -> TierState | None:
    """The tier after ``chosen``: of the language models that ``auto`` may take, the next dearer one (of those that cost
    the same, the next better measured one) that did not measure worse.

    Args:
        allowed: the names the one who asks may use; empty: all.
    """
    if not section.on:
        return None
    there = [
        tier
        for tier in generative(tiers)
        if tier.name != chosen.name
        and _size(tier) > _size(chosen)
        and not (tier.asleep or tier.external)
        and not (allowed and tier.name not in allowed)
        and not (section.most_price and tier.price > section.most_price)
        and (chosen.fallback or _score(tier) >= _score(chosen) - AS_GOOD)
    ]
    return min(there, key=_size, default=None)


def obstacle(tier: TierState, left_ms: float) -> str:
    """Why there is no time to ask this tier; empty where there is.

    ``unmeasured``: nobody knows how long it takes. ``no_time``: its usual answer, after those in front of it, would
    come after the deadline.

    Args:
        left_ms: milliseconds until the request's deadline.
    """
    if not tier.latency_ms:
        return "unmeasured"
    return "no_time" if tier.latency_ms * rounds(tier) >= left_ms else ""


def doubt(answer: Answer, retrieval: Retrieval, tier: TierState) -> str:
    """Why this answer should rather be another tier's: one of ``DOUBTS``, ``beside_reader``, or empty."""
    if not answer.grounded:
        return answer.reason if answer.reason in DOUBTS else ""
    surest = max(retrieval.readings, key=lambda reading: reading.answerable, default=None)
    if surest is None or surest.answerable < SURE or not tier.continues:
        return ""
    read = {retrieval.passages[one.passage].chunk for one in retrieval.readings if one.answerable >= SURE}
    return "" if read & {citation.chunk for citation in answer.citations} else BESIDE_READER


def _size(tier: TierState) -> tuple[bool, float, float]:
    return (not tier.fallback, tier.price, _score(tier))


def _score(tier: TierState) -> float:
    measured = overall(tier.bands)
    return measured.model if measured else 0.0
