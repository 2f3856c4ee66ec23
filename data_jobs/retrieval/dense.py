"""Nearest vectors by inner product: exact search for small indexes, inverted lists for large ones (FAISS)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

EXACT_UP_TO = 50_000
MIN_LISTS_SEARCHED = 16
TRAINING_PER_LIST = 64


class DenseIndex:
    """Inner-product search over L2-normalised vectors, so scores are cosines.

    Args:
        vectors: float32 [rows, dim]; above ``EXACT_UP_TO`` rows they are clustered into inverted lists, which takes
            about 10 s per 100,000 rows: save the result with the snapshot and ``load`` it.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(1)  # single queries are as fast or faster on one thread
        rows, dim = vectors.shape
        self.index: Any = faiss.IndexFlatIP(dim)
        if is_large(rows):
            lists = max(1, min(int(4 * rows**0.5), rows // TRAINING_PER_LIST))
            self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
            sample = np.ascontiguousarray(vectors[:: max(1, rows // (lists * TRAINING_PER_LIST))])
            self.index.train(sample)
        self.index.add(np.ascontiguousarray(vectors))
        self._widen()

    @classmethod
    def load(cls, path: Path) -> DenseIndex:
        """An index that ``save`` wrote; its bytes must have been verified (FAISS reads damaged files without error)."""
        import faiss

        faiss.omp_set_num_threads(1)
        loaded = cls.__new__(cls)
        loaded.index = faiss.read_index(str(path))
        loaded._widen()
        return loaded

    def save(self, path: Path) -> None:
        """Write the index; equal vectors give equal bytes."""
        import faiss

        faiss.write_index(self.index, str(path))

    def _widen(self) -> None:
        """Search enough lists that no good hit is lost: FAISS searches one by default and does not store the number."""
        if hasattr(self.index, "nprobe"):
            self.index.nprobe = max(MIN_LISTS_SEARCHED, self.index.nlist // 32)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def search(self, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and cosines of the ``k`` nearest, best first (fewer where there are fewer)."""
        scores, rows = self.index.search(vector.reshape(1, -1), min(k, len(self)))
        found = rows[0] >= 0
        return rows[0][found], scores[0][found]


def is_large(rows: int) -> bool:
    """Whether an index of that many rows is clustered, and therefore saved."""
    return rows > EXACT_UP_TO
