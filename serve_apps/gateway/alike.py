"""Questions in other words: which earlier question was so much like this one that its answer may be given. Pure.

Being alike is not enough: "when" and "where" are close to each other in every embedder. The reader, which reads what
was found for a question in any case, has to be sure of both, and to find the answer to both in the same place.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from data_jobs.retrieval.results import Retrieval

MOST = 4096  # questions that are remembered, the last ones: about 1.5 KB each
SURE = 0.9  # least calibrated probability that a window answers the question


@dataclass(frozen=True)
class Place:
    """Where the reader finds the answer to a question: half-open offsets in the document of a chunk."""

    chunk: str
    start: int
    end: int

    @classmethod
    def of(cls, found: Retrieval) -> Place | None:
        """The place of which the reader is surest; None where it did not read, is not sure or points at nothing."""
        best = max(found.readings, key=lambda reading: reading.answerable, default=None)
        if best is None or best.answerable < SURE or best.answer_end <= best.answer_start:
            return None
        return cls(found.passages[best.passage].chunk, best.answer_start, best.answer_end)

    def meets(self, other: Place) -> bool:
        """Whether the two overlap."""
        return self.chunk == other.chunk and self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class _Asked:
    group: str
    place: Place
    vector: array[float]


class AlikeQuestions:
    """The questions asked last, whether or not their answers were kept. For one event loop; not thread-safe.

    Args:
        least: cosine from which on two questions are alike; 0: none are.
        most: questions that are remembered.
    """

    def __init__(self, least: float, most: int = MOST) -> None:
        self.least, self._most = least, most
        self._asked: OrderedDict[str, _Asked] = OrderedDict()

    def note(self, key: str, group: str, vector: Sequence[float], place: Place) -> None:
        """Remember a question.

        Args:
            group: only questions of one group are held against each other.
            vector: unit vector.
        """
        self._asked[key] = _Asked(group, place, array("f", vector))
        self._asked.move_to_end(key)
        if len(self._asked) > self._most:
            self._asked.popitem(last=False)

    def like(self, group: str, vector: Sequence[float], place: Place) -> list[tuple[float, str]]:
        """Cosines and keys of those that are alike and are answered in the same place, most alike first."""
        there = [(key, one) for key, one in self._asked.items() if one.group == group and one.place.meets(place)]
        found = [(sum(map(mul, vector, one.vector)), key) for key, one in there if len(one.vector) == len(vector)]
        return sorted(((cosine, key) for cosine, key in found if cosine >= self.least), reverse=True)
