"""Questions in other words: which earlier question was so much like this one that its answer may be given. Pure.

Being alike is not enough: "when" and "where" are close to each other in every embedder. What the documents themselves
say to both (the answer that quotes them) has to be the same, word for word, and the reader must not doubt it: where it
read, it finds the answer in the passage that is cited first. Nor is that enough: "on Monday" and "on Sunday" are
answered by the same sentence, and "may I" and "may I not". So the words that turn a question into another one have to
be the same, too.
"""

from __future__ import annotations

import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul
from typing import Self

from cluster.core.records import Answer
from data_jobs.retrieval.asking import COMPARISON, TWO, YES_NO, form_of
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.terms import Term, question_terms

MOST = 4096  # questions that are remembered, the last ones: about 2 KB each
SURE = 0.5  # least calibrated probability that a window answers the question, of a reader that does not doubt it
WHOLE = "supported"  # the reason of an answer that covers all that was asked
_NO = re.compile(
    r"n['’]t\b|\b(?:no|not|cannot|never|without|neither|nor|none|nobody|nothing|nowhere"
    r"|(?:do|does|did|ca|wo|is|are|was|were|has|have|had|could|would|should)nt)\b",
    re.IGNORECASE,
)
_TURNS = re.compile(
    r"\b(?:except|unless|only|before|after|more|less|fewer|most|least|first|last|over|under|above|below|minimum|maximum"
    r"|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|once|twice"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|weekdays?|weekends?"
    r"|january|february|march|april|june|july|august|september|october|november|december"
    r"|\d+(?:[.,:/]\d+)*)\b",
    re.IGNORECASE,
)
EVERY_WORD = (YES_NO, COMPARISON, TWO)  # forms whose answer turns on every word


@dataclass(frozen=True)
class Wording:
    """What of a question's words decides what it asks, beside what it is about.

    Attributes:
        form: the form of answer it wants.
        turns: small words, numbers and days that turn it round, and ``not`` for whatever denies.
        names: stems of what it spells as names.
        words: stems of all its content words.
    """

    form: str
    turns: frozenset[str]
    names: frozenset[str]
    words: frozenset[str]

    @classmethod
    def of(cls, question: str) -> Self:
        """The wording of a question."""
        terms = question_terms(question)
        names = [term for term in terms if term.identifier or term.acronym or _is_capital(term.text, question)]
        turns = {match.lower() for match in _TURNS.findall(question)} | ({"not"} if _NO.search(question) else set())
        return cls(form_of(question).name, frozenset(turns), _stems(names), _stems(terms))

    def agrees(self, other: Self) -> bool:
        """Whether nothing that decides is in one of the two alone."""
        if self.form in EVERY_WORD or other.form in EVERY_WORD:
            return (self.form, self.turns, self.words) == (other.form, other.turns, other.words)
        return self.turns == other.turns and self.names <= other.words and other.names <= self.words


def _is_capital(text: str, question: str) -> bool:
    """Whether somebody chose capitals, as a sentence does by itself for its first letter."""
    return text != text.lower() and not question.lstrip().startswith(text)


def _stems(terms: Iterable[Term]) -> frozenset[str]:
    return frozenset(stem for term in terms for stem in term.stem.split())


@dataclass(frozen=True)
class Told:
    """What the documents themselves say to a question, and the chunk that says it first."""

    chunk: str
    text: str

    @classmethod
    def of(cls, found: Retrieval, quoted: Answer) -> Self | None:
        """What they say; None where that is not all that was asked, where the reader doubts it or finds the answer
        elsewhere, and for a language that likeness was not learnt on.

        Args:
            quoted: the answer that quotes what was found.
        """
        if not quoted.grounded or quoted.reason != WHOLE or not quoted.citations or found.understood.language:
            return None
        chunk = quoted.citations[0].chunk
        best = max(found.readings, key=lambda reading: reading.answerable, default=None)
        if best is not None and (best.answerable < SURE or found.passages[best.passage].chunk != chunk):
            return None
        return cls(chunk, quoted.text)


@dataclass(frozen=True)
class AskedQuestion:
    """A question as it is held against others.

    Attributes:
        group: only questions of one group are.
        vector: unit vector.
    """

    group: str
    told: Told
    wording: Wording
    vector: array[float]

    def same(self, other: AskedQuestion) -> bool:
        """Whether the two ask the same, provided that they are alike."""
        return self.group == other.group and self.told == other.told and self.wording.agrees(other.wording)


class AlikeQuestions:
    """The questions asked last, whether or not their answers were kept. For one event loop; not thread-safe.

    Args:
        least: cosine from which on two questions are alike; 0: none are.
        most: questions that are remembered.
    """

    def __init__(self, least: float, most: int = MOST) -> None:
        self.least, self._most = least, most
        self._asked: OrderedDict[str, AskedQuestion] = OrderedDict()

    def note(self, key: str, asked: AskedQuestion) -> None:
        """Remember a question."""
        self._asked[key] = asked
        self._asked.move_to_end(key)
        if len(self._asked) > self._most:
            self._asked.popitem(last=False)

    def like(self, asked: AskedQuestion) -> list[tuple[float, str]]:
        """Cosines and keys of those that are alike and ask the same, most alike first."""
        same = [(key, one) for key, one in self._asked.items() if one.same(asked)]
        found = [
            (sum(map(mul, asked.vector, one.vector)), key) for key, one in same if len(one.vector) == len(asked.vector)
        ]
        return sorted(((cosine, key) for cosine, key in found if cosine >= self.least), reverse=True)
