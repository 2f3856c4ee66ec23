"""Nearest vectors by inner product: exact search for small indexes, inverted lists for large ones (FAISS)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

EXACT_UP_TO = 50_000
MIN_LISTS_SEARCHED = 16
TRAINING_PER_LIST = 64
# One list in so many. At 100,000 chunks recall@10 of real questions is 0.964 at 32, 0.979 at 21, 0.989 at 16 and 0.992
# at 12, for 0.5, 0.7, 0.9 and 1.3 ms a question on one core.
SEARCHED_SHARE = 12
TOGETHER = 4  # questions from which on FAISS compares them in one product of matrices: the vectors are read once


class DenseIndex:
    """Inner-product search over L2-normalised vectors, so scores are cosines.

    Args:
        vectors: float [rows, dim]; above ``EXACT_UP_TO`` rows they are clustered into inverted lists, which takes
            about 10 s per 100,000 rows: save the result with the snapshot and ``load`` it.
    """

    _ahead: dict[tuple[bytes, int], tuple[np.ndarray, np.ndarray]] = {}  # noqa: RUF012 (replaced, never changed)

    def __init__(self, vectors: np.ndarray) -> None:
        import faiss

        _set_up(faiss)
        rows, dim = vectors.shape
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.index: Any = faiss.IndexFlatIP(dim)
        if is_large(rows):
            lists = max(1, min(int(4 * rows**0.5), rows // TRAINING_PER_LIST))
            self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
            sample = np.ascontiguousarray(vectors[:: max(1, rows // (lists * TRAINING_PER_LIST))])
            if faiss.get_num_gpus():
                self.index = _filled_on_gpu(self.index, sample, vectors)
            else:
                self.index.train(sample)
                self.index.add(vectors)
        else:
            self.index.add(vectors)
        self._widen()

    @classmethod
    def load(cls, path: Path) -> DenseIndex:
        """An index that ``save`` wrote; its bytes must have been verified (FAISS reads damaged files without error)."""
        import faiss

        _set_up(faiss)
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
            self.index.nprobe = max(MIN_LISTS_SEARCHED, self.index.nlist // SEARCHED_SHARE)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def ahead(self, vectors: np.ndarray, k: int) -> None:
        """Find the ``k`` nearest of vectors [n, dim] that are about to be searched; ``TOGETHER`` and more of them take
        less time than one by one. What was found ahead before is forgotten."""
        scores, rows = self.index.search(vectors, min(k, len(self)))
        found = zip(rows, scores, strict=True)
        self._ahead = {(vector.tobytes(), k): one for vector, one in zip(vectors, found, strict=True)}

    @cached_property
    def vectors(self) -> np.ndarray | None:
        """float32 [rows, dim], in the memory of an index that is searched exactly; None of one in inverted lists."""
        faiss: Any = importlib.import_module("faiss")
        if not isinstance(self.index, faiss.IndexFlat) or not len(self):
            return None
        found: np.ndarray = faiss.rev_swig_ptr(self.index.get_xb(), len(self) * self.index.d)
        return found.reshape(len(self), self.index.d)

    def search(self, vector: np.ndarray, k: int, only: Any = None, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Rows and cosines of the ``k`` nearest, best first (fewer where there are fewer).

        Args:
            only: a FAISS selector of the rows that may be found; all without it.
            share: of all rows that they are; the nearest of fewer are farther apart, and looked for in more lists.
        """
        parameters: Any = None
        if only is not None:
            faiss: Any = importlib.import_module("faiss")  # its type hints are those of the C++ behind it
            if hasattr(self.index, "nprobe"):
                lists = min(self.index.nlist, math.ceil(self.index.nprobe / max(share, 1e-6)))
                parameters = faiss.SearchParametersIVF(sel=only, nprobe=lists)
            else:
                parameters = faiss.SearchParameters(sel=only)
        if only is None and (known := self._ahead.pop((vector.tobytes(), k), None)) is not None:
            rows, scores = known
        else:
            many, more = self.index.search(vector.reshape(1, -1), min(k, len(self)), params=parameters)
            scores, rows = many[0], more[0]
        found = rows >= 0
        return rows[found], scores[found]


class PatchedDense:
    """A stored index of which some rows are gone, and vectors beside it that are searched exactly; nothing is rebuilt.

    Args:
        base: the stored index; it is shared, never changed.
        places: int [rows of base]: the row of the whole that each has now, -1 where it is gone.
        extra: float [more rows, dim], the vectors beside it; extra_places: their rows of the whole.
    """

    def __init__(self, base: DenseIndex, places: np.ndarray, extra: np.ndarray, extra_places: np.ndarray) -> None:
        faiss: Any = importlib.import_module("faiss")
        self._base, self._places, self._extra_places = base, places, extra_places
        alive = places >= 0
        self._bits = np.packbits(alive, bitorder="little")  # kept: the selector only points to it
        self._only = None if alive.all() else faiss.IDSelectorBitmap(self._bits)
        self._extra = faiss.IndexFlatIP(extra.shape[1])
        self._extra.add(np.ascontiguousarray(extra, dtype=np.float32))
        self._length = int(alive.sum()) + len(extra)
        self._share = float(alive.mean()) if len(alive) else 1.0

    def __len__(self) -> int:
        return self._length

    def search(self, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``DenseIndex.search``."""
        rows, scores = self._base.search(vector, k, self._only, self._share)
        rows = self._places[rows]
        if self._extra.ntotal:
            more, found = self._extra.search(vector.reshape(1, -1), min(k, self._extra.ntotal))
            rows = np.concatenate([rows, self._extra_places[found[0]]])
            scores = np.concatenate([scores, more[0]])
        order = np.argsort(-scores, kind="stable")[:k]
        return rows[order], scores[order]


def _set_up(faiss: Any) -> None:
    faiss.omp_set_num_threads(1)  # single queries are as fast or faster on one thread
    faiss.cvar.distance_compute_blas_threshold = TOGETHER


def _filled_on_gpu(index: Any, sample: np.ndarray, vectors: np.ndarray) -> Any:
    """``index`` trained and filled on the first GPU, back in the form that is saved and searched on CPUs.

    Clustering is what takes long, and what a GPU (extra ``gpu``) is for. One question at a time is searched faster by
    a core than it gets to a GPU, whose index also cannot leave out rows (``only``).
    """
    faiss: Any = importlib.import_module("faiss")
    there = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    there.train(sample)
    there.add(vectors)
    return faiss.index_gpu_to_cpu(there)


def is_large(rows: int) -> bool:
    """Whether an index of that many rows is clustered, and therefore saved."""
    return rows > EXACT_UP_TO


def cosines_of(vectors: np.ndarray, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Of a float32 vector and some rows, float32; stored vectors are half as long."""
    return np.asarray(vectors[rows].astype(np.float32, copy=False) @ vector)


def row_cosines(index: Any, stored: np.ndarray, places: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """``cosines_of`` for rows of an index, whose vectors are the ``stored`` ones at ``places``. Where the index keeps
    them at full length they need not be made of those for each question."""
    own = index.vectors if isinstance(index, DenseIndex) else None
    if own is not None:
        return lambda rows, vector: cosines_of(own, rows, vector)
    return lambda rows, vector: cosines_of(stored, places[rows], vector)
