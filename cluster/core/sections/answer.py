"""Making an answer from passages (train_jobs/answering)."""

from __future__ import annotations

from pydantic import Field

from cluster.core.sections.base import Section


class AnswerSection(Section):
    """How an answer is made from passages (train_jobs/answering)."""

    max_citations: int = Field(5, ge=1, le=5)
    """Citations of one answer (contract: at most 5)."""
    max_words: int = Field(60, ge=10)
    """Longest answer of the quote tier in words."""
    max_names: int = Field(3, ge=1)
    """Most documents (functions) one answer names."""
    prompt_tokens: int = Field(3072, ge=64)
    """Token budget for question and passages; the lowest passages are dropped first and the answer says so."""
    min_confidence: float | None = Field(None, ge=0, le=1)
    """Below this confidence the tier abstains; null: below the threshold that keeps `max_risk` in the index asked, or a
    careful one where its evidence promises nothing (`plinth index show`)."""
    max_risk: float = Field(0.05, gt=0, lt=1)
    """Largest share of the answers that may be unsupported, where a reader reads before (`retrieval.reader`): promised
    with 95 % confidence from questions made of the corpus when its index is built."""
