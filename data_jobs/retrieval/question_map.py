"""What an index learnt of the questions that its documents are asked: a small change of a question's vector.

Documents keep their vectors, so that nothing is embedded anew, and a question costs two small products more (some
microseconds). The changed vector decides which chunks are candidates and in which order; scores, features and
confidence stay those of the vector that the embedder gave, on which they were calibrated. Which code object comes first
is decided by a closer look at what was found (``ranking``), which starts from those scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.core.errors import IntegrityError

FILE = "question_map.safetensors"  # in the folder of an index


@dataclass(frozen=True)
class QuestionMap:
    """``q + up (down q)``, made one long again.

    Attributes:
        down: float32 [rank, dim]; up: float32 [dim, rank].
    """

    down: np.ndarray
    up: np.ndarray

    def of(self, vector: np.ndarray) -> np.ndarray:
        """The vector with which chunks are looked for, float32 [dim], of a question's own."""
        moved = vector + self.up @ (self.down @ vector)
        return np.asarray(moved / max(float(np.linalg.norm(moved)), 1e-9), dtype=np.float32)

    def to_bytes(self) -> bytes:
        """As a safetensors file; equal maps give equal bytes."""
        from safetensors.numpy import save

        return save({"down": np.ascontiguousarray(self.down), "up": np.ascontiguousarray(self.up)})

    @classmethod
    def from_bytes(cls, body: bytes, dim: int) -> QuestionMap:
        """What ``to_bytes`` gave.

        Raises:
            IntegrityError: it is no map of vectors of this length, or holds a number that is none.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(body)
            found = cls(*(tensors[name].astype(np.float32) for name in ("down", "up")))
        except (SafetensorError, KeyError, TypeError) as error:
            raise IntegrityError(f"{FILE} is damaged: {error}") from error
        fits = found.down.ndim == 2 and found.down.shape[1] == dim and found.up.shape == found.down.shape[::-1]
        if not fits or not (np.isfinite(found.down).all() and np.isfinite(found.up).all()):
            raise IntegrityError(f"{FILE} is no map of vectors of length {dim}")
        return found

    @classmethod
    def read(cls, folder: Path, dim: int) -> QuestionMap | None:
        """That of an index's folder; None where it learnt nothing.

        Raises:
            IntegrityError: as ``from_bytes``.
        """
        path = folder / FILE
        return cls.from_bytes(path.read_bytes(), dim) if path.is_file() else None
