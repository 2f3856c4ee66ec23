"""Whether the passages support an answer: a calibrated probability from a handful of general features.

The probability is a logistic model; its coefficients are in ``support_model.json`` beside this file, written by
``train_jobs.evaluation.calibrate`` together with what they were fitted on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_jobs.retrieval.results import Retrieval
from train_jobs.answering.terms import Term, question_terms, text_stems

MODEL = Path(__file__).with_name("support_model.json")
REASONS = ("supported", "no_passages", "unknown_terms", "low_support", "nothing_quotable")
"""Why an answer is what it is (closed set, a metric label)."""


@dataclass(frozen=True)
class SupportModel:
    """A logistic model: ``p = sigmoid(intercept + sum(coefficient * (feature - mean) / scale))``."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float

    def probability(self, values: Mapping[str, float]) -> float:
        """Support in (0, 1). Raises KeyError where a feature is missing."""
        total = self.intercept
        for name, mean, scale, coefficient in zip(
            self.features, self.means, self.scales, self.coefficients, strict=True
        ):
            total += coefficient * (values[name] - mean) / scale
        return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, total))))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> SupportModel:
        lists = (tuple(row[name]) for name in ("features", "means", "scales", "coefficients"))
        return cls(*lists, float(row["intercept"]))


@lru_cache(maxsize=1)
def support_model() -> SupportModel:
    """The calibrated model that ships."""
    return SupportModel.from_dict(json.loads(MODEL.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Support:
    """The verdict: ``probability`` that the passages answer the question, whether that is enough, and why (``REASONS``)."""

    grounded: bool
    reason: str
    probability: float


def support(question: str, retrieval: Retrieval, min_confidence: float) -> Support:
    """Decide whether to answer.

    ``unknown_terms`` is the reason where the question turns on a name that the passages do not know, ``low_support`` where
    they are just about something else.
    """
    if not retrieval.passages:
        return Support(False, "no_passages", 0.0)
    values = support_features(question, retrieval)
    probability = support_model().probability(values)
    if probability >= min_confidence:
        return Support(True, "supported", probability)
    strange = values["unknown_names"] + values["foreign_names"]
    return Support(False, "unknown_terms" if strange >= 1 else "low_support", probability)


def support_features(question: str, retrieval: Retrieval) -> dict[str, float]:
    """Evidence for support: what the search measured against the corpus, and what the passages themselves say.

    Beside ``Retrieval.features`` (``data_jobs.retrieval.features.FEATURES``):

    - ``foreign_names``: names in the question (capitalised inside a sentence, all capitals apart) that no passage writes so;
    - ``unknown_names``: code-like names in the question whose words no passage holds together;
    - ``best_sentence``: highest dense plus lexical score of a sentence;
    - ``covered_one``: share of the content words that the best single passage holds;
    - ``covered_all``: share that the passages together hold.
    """
    terms = question_terms(question)
    texts = [f"{passage.context}\n{passage.title}\n{passage.document}\n{passage.text}" for passage in retrieval.passages]
    per_passage = [text_stems(text) for text in texts]
    together = set().union(*per_passage)
    whole = "\n".join(texts)
    plain = [term for term in terms if not term.identifier]
    return {
        **retrieval.features,
        "foreign_names": float(sum(term.proper and not _written(term, whole) for term in terms)),
        "unknown_names": float(sum(term.identifier and not _written(term, whole) for term in terms)),
        "best_sentence": max((s.dense + 0.5 * s.lexical for s in retrieval.sentences), default=0.0),
        "covered_one": max((_share(plain, stems) for stems in per_passage), default=0.0),
        "covered_all": _share(plain, together),
    }


def _written(term: Term, text: str) -> bool:
    """Whether the text writes the name as the question does: identifiers in any case, proper names in this case (a verb
    ``go`` is no ``Go``) or in capitals."""
    if term.identifier:
        return term.text.lower() in text.lower()
    return any(
        re.search(rf"(?<![^\W_]){re.escape(form)}(?![^\W_])", text) for form in {term.text, term.text.upper()}
    )


def _share(terms: list[Term], stems: set[str]) -> float:
    return sum(term.stem in stems for term in terms) / len(terms) if terms else 0.0
