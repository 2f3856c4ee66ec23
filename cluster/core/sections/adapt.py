"""Search that learns a corpus: `plinth adapt` (train_jobs/adaptation)."""

from __future__ import annotations

from pydantic import Field

from cluster.core.sections.base import Section


class AdaptSection(Section):
    """How an index learns its questions, and what it must gain before it answers so."""

    per_passage: int = Field(3, ge=1, le=20)
    """Questions wanted for each passage of the documents that are learnt from, and of those that judge."""
    round_trip: int = Field(10, ge=1, le=100)
    """A question is used where its own passage is among so many that search finds for it; others are dropped."""
    held_out: float = Field(0.3, ge=0.1, le=0.8)
    """Share of the documents that only judge, by the hash of their ids."""
    seed: int = 0
    """Of the questions. Every further try on the same documents must be surer of its gain."""
    rank: int = Field(32, ge=1, le=1024)
    """Rank of the matrix that is added to a question's vector: how much can be learnt."""
    learning_rate: float = Field(1e-3, gt=0)
    """Its peak."""
    epochs: float = Field(4.0, gt=0)
    """Passes over the questions."""
    margin: float = Field(0.02, ge=0, le=0.5)
    """By how much the reciprocal rank on the questions that ship with the product may be lower, at the lower end of
    its 95 % interval."""
    min_questions: int = Field(60, ge=10)
    """Held-out questions without which nothing is decided."""
    min_documents: int = Field(10, ge=3)
    """Held-out documents without which nothing is decided."""
