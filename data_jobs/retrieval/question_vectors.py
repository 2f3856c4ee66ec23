"""Vectors of questions: those that wait are embedded together, and the last ones are kept.

One question is a dozen tokens, too few to keep a core busy: eight together cost about half as much each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from data_jobs.retrieval.embedder import Embedder

KEPT = 512  # questions; a vector of them is some 1.5 KB


class QuestionVectors:
    """An embedder's vectors of questions. Not thread-safe, as the embedder is not.

    Args:
        embedder: makes them (``kind="query"``).
        kept: the most that are remembered, those asked last.
    """

    def __init__(self, embedder: Embedder, kept: int = KEPT) -> None:
        self.embedder, self._most = embedder, kept
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()

    def prepare(self, questions: Sequence[str]) -> None:
        """Embed those that are not known yet in one forward pass, because they are about to be asked for."""
        new = [one for one in dict.fromkeys(questions) if one.strip() and one not in self._kept][: self._most]
        if new:
            for question, vector in zip(new, self.embedder.encode(new, kind="query"), strict=True):
                self._keep(question, vector)

    def of(self, question: str) -> np.ndarray:
        """The vector of a question, float32 [dim]."""
        if (vector := self._kept.get(question)) is None:
            vector = self.embedder.encode([question], kind="query")[0]
        self._keep(question, vector)
        return vector

    def of_all(self, questions: Sequence[str]) -> np.ndarray:
        """Those of several, float32 [questions, dim], in their order."""
        self.prepare(questions)
        return np.stack([self.of(question) for question in questions])

    def _keep(self, question: str, vector: np.ndarray) -> None:
        self._kept[question] = vector
        self._kept.move_to_end(question)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
