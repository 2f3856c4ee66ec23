"""Nearest vectors by inner product: exact search for small indexes, inverted lists for large ones (FAISS)."""

from __future__ import annotations

from typing import Any

import numpy as np

EXACT_UP_TO = 50_000


class DenseIndex:
    """Inner-product search over L2-normalised vectors, so scores are cosines.

    Args:
        vectors: float32 [rows, dim].
    """

    def __init__(self, vectors: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(1)  # single queries are as fast or faster on one thread
        rows, dim = vectors.shape
        self.index: Any = faiss.IndexFlatIP(dim)
        if rows > EXACT_UP_TO:
            lists = int(4 * rows**0.5)
            self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
            self.index.train(vectors)
            self.index.nprobe = max(16, lists // 32)
        self.index.add(np.ascontiguousarray(vectors))

    def search(self, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and cosines of the ``k`` nearest, best first (fewer where there are fewer)."""
        scores, rows = self.index.search(vector.reshape(1, -1), min(k, self.index.ntotal))
        found = rows[0] >= 0
        return rows[0][found], scores[0][found]
