"""Scores of answers: pure functions over a question's accepted names and what was answered.

Rates come with a 95 % Wilson score interval (Wilson 1927, "Probable inference, the law of succession, and statistical
inference"), which stays inside [0, 1] and is honest for few questions and for rates near 0 or 1.
"""

from __future__ import annotations

import functools
import math
import re
import string
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``total`` with the bounds of its 95 % interval; ``value`` is None where nothing was counted."""

    hits: int
    total: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Rate:
        """Count outcomes: those that are true are the hits."""
        values = list(outcomes)
        return cls(sum(values), len(values))

    @property
    def value(self) -> float | None:
        """The share of hits, 0 to 1; None where nothing was counted."""
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the 95 % Wilson interval; (0, 1) where nothing was counted."""
        return wilson(self.hits, self.total)

    def to_dict(self) -> dict[str, Any]:
        """``{"hits", "total", "rate", "low", "high"}`` for JSON; ``rate`` is None where nothing was counted."""
        low, high = self.interval
        return {"hits": self.hits, "total": self.total, "rate": self.value, "low": low, "high": high}

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        low, high = self.interval
        return f"{self.value:.3f} [{low:.2f}, {high:.2f}] {self.hits}/{self.total}"


def wilson(hits: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a binomial rate; (0, 1) where nothing was counted.

    Raises:
        ValueError: hits outside 0..total.
    """
    if not 0 <= hits <= total:
        raise ValueError(f"{hits} hits of {total}")
    if total == 0:
        return 0.0, 1.0
    rate, square = hits / total, z * z
    centre = (rate + square / (2 * total)) / (1 + square / total)
    half = z * math.sqrt(rate * (1 - rate) / total + square / (4 * total * total)) / (1 + square / total)
    return max(0.0, centre - half), min(1.0, centre + half)


def all_names(document: str, aliases: Mapping[str, Collection[str]]) -> set[str]:
    """The document's id and every other public name of the same thing."""
    return {document, *aliases.get(document, ())}


def first_accepted(
    documents: Sequence[str], accepted: Collection[str], aliases: Mapping[str, Collection[str]]
) -> int | None:
    """Place (from 0) of the first document one of whose names is accepted, or None."""
    wanted = set(accepted)
    return next((i for i, document in enumerate(documents) if all_names(document, aliases) & wanted), None)


def names_in_text(text: str, names: Iterable[str]) -> set[str]:
    """The qualified names that stand in the text as whole names: ``json`` is not named by ``json.loads`` or
    ``my.json``, and is named by ``json.`` at the end of a sentence."""
    return {name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w|\.\w)", text)}


def accepted_in_text(
    text: str, cited: Sequence[str], accepted: Collection[str], aliases: Mapping[str, Collection[str]]
) -> bool:
    """Whether the text names an accepted function: by an accepted name, or by any name of a cited document that is
    the same thing as an accepted one. A name without a dot (``warnings``, ``zip``) does not count inside quotation
    marks: there it is most often just the English word."""
    right = set(accepted)
    for document in cited:
        same = all_names(document, aliases)
        if same & set(accepted):
            right |= same
    dotted = {name for name in right if "." in name}
    outside = re.sub(r'"[^"]*"', " ", text)
    return bool(names_in_text(text, dotted) or names_in_text(outside, right - dotted))


def normalised_answer(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces (SQuAD's normalisation, Rajpurkar et al. 2016)."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def contains_gold(text: str, golds: Iterable[str]) -> bool:
    """Whether a gold answer stands in the text after SQuAD's normalisation, at word boundaries."""
    body = f" {normalised_answer(text)} "
    return any(f" {gold} " in body for gold in map(normalised_answer, golds) if gold)


def token_f1(text: str, gold: str) -> float:
    """F1 of the words two texts share, each as often as both have it, after SQuAD's normalisation (Rajpurkar et al.
    2016): 1 for the same words in any order, 0 for none in common."""
    said, wanted = _words(text), _words(gold)
    shared = sum((said & wanted).values())
    return 2 * shared / (said.total() + wanted.total()) if shared else 0.0


@functools.lru_cache(maxsize=4096)  # one sentence is held against many
def _words(text: str) -> Counter[str]:
    return Counter(normalised_answer(text).split())
