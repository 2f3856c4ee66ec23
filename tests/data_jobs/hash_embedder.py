"""A stand-in for the embedding model: word vectors by hash, added up. Similar texts are near, and it costs nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from cluster.core.records import stable_hash
from data_jobs.retrieval.model_files import asks_of


class HashEmbedder:
    """Has what building and searching use of ``Embedder``; ``texts`` are all that it was asked to embed."""

    def __init__(self, identity: dict[str, Any]) -> None:
        self.identity = identity
        self.fingerprint, self.asks = stable_hash(identity), asks_of(identity)
        self.dim = 32
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str], kind: str = "document") -> np.ndarray:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        if kind == "document":
            self.texts += texts
        made = np.stack([sum((_vector(word) for word in re.findall(r"\w+", t.lower())), np.ones(32)) for t in texts])
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

    def encode_parts(
        self, texts: Sequence[str], parts: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        whole = self.encode(texts)
        own = [text[a:b] for text, spans in zip(texts, parts, strict=True) for a, b in spans]
        return whole, self.encode(own, kind="part")

    def warm(self) -> None: ...

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        return [[place] for place in reversed(range(len(texts)))]

    def count_tokens(self, text: str) -> int:
        return len(text.split())


@lru_cache(maxsize=10_000)
def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=32)
