"""Questions in other words: which earlier question was so much like this one that its answer may be given. Pure.

Being alike is not enough: "when" and "where" are close to each other in every embedder. The reader, which reads what
was found for a question in any case, has to be sure of both, and to find the answer to both in the same place. Nor is
that: "on Monday" and "on Sunday" are answered by the same sentence, and "may I" and "may I not". So the words that turn
a question into another one have to be the same, too.
"""

from __future__ import annotations

import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul
from typing import Self

from data_jobs.retrieval.asking import COMPARISON, TWO, YES_NO, form_of
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.terms import Term, question_terms

MOST = 4096  # questions that are remembered, the last ones: about 2 KB each
SURE = 0.9  # least calibrated probability that a window answers the question
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
WHOLE = (YES_NO, COMPARISON, TWO)  # forms whose answer turns on every word


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
        names = [term for term in terms if term.proper or term.acronym or term.identifier]
        turns = {match.lower() for match in _TURNS.findall(question)} | ({"not"} if _NO.search(question) else set())
        return cls(form_of(question).name, frozenset(turns), _stems(names), _stems(terms))

    def agrees(self, other: Self) -> bool:
        """Whether nothing that decides is in one of the two alone."""
        if (self.form, self.turns) != (other.form, other.turns):
            return False
        if self.form in WHOLE:
            return self.words == other.words
        return self.names <= other.words and other.names <= self.words


def _stems(terms: Iterable[Term]) -> frozenset[str]:
    return frozenset(stem for term in terms for stem in term.stem.split())


@dataclass(frozen=True)
class Place:
    """Where the reader finds the answer to a question: half-open offsets in the document of a chunk."""

    chunk: str
    start: int
    end: int

    @classmethod
    def of(cls, found: Retrieval) -> Place | None:
        """The place of which the reader is surest; None where it did not read, is not sure or points at nothing, and
        for a language that likeness was not learnt on."""
        best = max(found.readings, key=lambda reading: reading.answerable, default=None)
        if best is None or best.answerable < SURE or best.answer_end <= best.answer_start or found.understood.language:
            return None
        return cls(found.passages[best.passage].chunk, best.answer_start, best.answer_end)

    def meets(self, other: Place) -> bool:
        """Whether the two overlap."""
        return self.chunk == other.chunk and self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class AskedQuestion:
    """A question as it is held against others.

    Attributes:
        group: only questions of one group are.
        vector: unit vector.
    """

    group: str
    place: Place
    wording: Wording
    vector: array[float]

    def same(self, other: AskedQuestion) -> bool:
        """Whether the two ask the same, provided that they are alike."""
        return self.group == other.group and self.place.meets(other.place) and self.wording.agrees(other.wording)


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
