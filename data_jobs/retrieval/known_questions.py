"""The questions that the documents of an index are known to answer, as evidence beside what their texts say."""

from __future__ import annotations

import numpy as np

from data_jobs.retrieval.dense import DenseIndex, row_cosines
from data_jobs.retrieval.segments import QUESTION
from data_jobs.retrieval.snapshot import Snapshot


class KnownQuestions:
    """The questions that chunks are known to answer."""

    def __init__(self, snapshot: Snapshot) -> None:
        units = np.flatnonzero(snapshot.unit_kind == QUESTION)
        vectors = snapshot.vectors[units]
        self._chunk = snapshot.unit_chunk[units]
        self._chunks = len(snapshot.chunks)
        stored = snapshot.dense.get(QUESTION)
        self._index = stored or (DenseIndex(vectors) if len(units) else None)
        self._cosines = row_cosines(self._index, vectors, np.arange(len(units)))

    def ahead(self, vectors: np.ndarray, k: int) -> None:
        """As ``DenseIndex.ahead``."""
        if isinstance(self._index, DenseIndex):
            self._index.ahead(vectors, k)

    def search(self, vector: np.ndarray, k: int) -> np.ndarray:
        """Chunks of the ``k`` questions nearest to this one, in no order."""
        if self._index is None:
            return np.empty(0, dtype=np.int32)
        return np.unique(self._chunk[self._index.search(vector, k)[0]])

    def cosines(self, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Per chunk of ``rows`` the highest cosine of this question and one of its own, 0 where it has none."""
        best = np.zeros(self._chunks, dtype=np.float32)
        wanted = np.zeros(self._chunks, dtype=bool)
        wanted[rows] = True
        mine = np.flatnonzero(wanted[self._chunk])
        np.maximum.at(best, self._chunk[mine], self._cosines(mine, vector))
        return best[rows]
