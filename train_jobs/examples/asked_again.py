"""An embedder that remembers the last question. A question of the examples is often searched twice: once as it is, and
once in a corpus without its document. Embedding it is the dearest part of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from data_jobs.retrieval.embedder import Embedder


class AskedAgain:
    """As the embedder it is given, with the vector of one question kept.

    What is kept is the very vector that the embedder made, so that searches find the same.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._question: str | None = None
        self._vector = np.zeros((0, 0), dtype=np.float32)

    def encode(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> np.ndarray:
        """As ``Embedder.encode``: float32 [len(texts), dim]."""
        if kind != "query" or len(texts) != 1:
            return self._embedder.encode(texts, kind)
        if texts[0] != self._question:
            self._question, self._vector = texts[0], self._embedder.encode(texts, kind)
        return self._vector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)
