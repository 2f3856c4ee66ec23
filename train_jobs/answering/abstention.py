"""Whether to answer: the confidence that the passages support an answer, held against a threshold."""

from __future__ import annotations

from dataclasses import dataclass

from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.support import NAMED, UNREAD, confidence

# Least confidence of an answer that a reader read, whatever the index's evidence promises: the strictest, in steps of
# .01, that still answers what is known of strange corpora (LOG.md, 2026-11-30: .85 of SQuAD's, .90 of small folders').
CAREFUL = 0.37
REASONS = (
    "supported", "no_passages", "unknown_terms", "low_support", "nothing_quotable",
    "model_abstained", "model_unreadable", "uncited", "partly_supported", "unknown_language", "courtesy",
)  # fmt: skip
"""Why an answer is what it is (closed set, a metric label)."""


@dataclass(frozen=True)
class Support:
    """The verdict: ``probability`` that the passages answer the question, whether that is enough, and why."""

    grounded: bool
    reason: str
    probability: float


def support(question: str, retrieval: Retrieval, min_confidence: float | None = None) -> Support:
    """Decide whether to answer.

    Args:
        min_confidence: least confidence of an answer; None for ``threshold_of`` the result.

    ``unknown_terms`` is the reason where the question turns on a name that the passages do not know,
    ``low_support`` where they are just about something else.
    """
    if not retrieval.passages:
        return Support(False, "no_passages", 0.0)
    found = confidence(question, retrieval)
    least = threshold_of(retrieval) if min_confidence is None else min_confidence
    if found.probability >= least:
        return Support(True, "supported", found.probability)
    if found.named and (retrieval.readings or least <= NAMED):
        return Support(True, "supported", max(found.probability, NAMED))
    return Support(False, "unknown_terms" if found.strange >= 1 else "low_support", found.probability)


def threshold_of(retrieval: Retrieval) -> float:
    """The least confidence of an answer: what the index promises its risk at, but never less than a careful default."""
    if not retrieval.readings:
        return UNREAD
    return max(CAREFUL, retrieval.threshold or 0.0)
