"""An index in memory, for evaluation: chunks, vectors and search as in the service, without cluster or storage."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cluster.core.records import Document
from cluster.core.sections.data import IndexSection, RetrievalSection
from data_jobs.indexing.index_blocks import cut, embed, with_enclosing
from data_jobs.retrieval.embedder import Embedder, load_embedder
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.rerank import load_reranker
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.snapshot import Snapshot


class RememberingEmbedder:
    """An embedder that keeps every document vector in a file, so that a second run embeds only what is new.

    Args:
        cache: a folder; one .npz per embedder fingerprint and corpus name.
    """

    def __init__(self, inner: Embedder, cache: Path, name: str) -> None:
        self.inner = inner
        self.dim = inner.dim
        self.path = cache / f"{name}-{inner.fingerprint}.npz"
        self.vectors: dict[str, np.ndarray] = {}
        if self.path.exists():
            with np.load(self.path) as stored:
                self.vectors = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Float32 [len(texts), dim], as ``Embedder.encode``."""
        keys = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.vectors}
        if new:
            made = self.inner.encode(list(new.values()), batch_size).astype(np.float16)
            self.vectors.update(zip(new, made, strict=True))
            self._save()
        return np.stack([self.vectors[key] for key in keys]).astype(np.float32)

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp.npz")
        np.savez(temporary, keys=np.array(list(self.vectors)), vectors=np.stack(list(self.vectors.values())))
        os.replace(temporary, self.path)


def searcher_over(
    documents: Sequence[Document],
    index: IndexSection,
    retrieval: RetrievalSection,
    embedder: Embedder | None = None,
    cache: Path | None = None,
    name: str = "documents",
) -> Searcher:
    """A searcher over documents, embedded here and now.

    Args:
        embedder: loaded here where not given.
        cache: where to keep vectors between runs; none without it.
    """
    embedder = embedder or load_embedder(index, threads=len(os.sched_getaffinity(0)))
    pairs = cut(with_enclosing(documents), find_model(index), index)
    encoder = RememberingEmbedder(embedder, cache, name) if cache else embedder
    block = embed(pairs, encoder, index.batch_size)  # type: ignore[arg-type]  # only encode() is used
    columns = np.array([(u.chunk, u.kind, u.start, u.end) for u in block.units], dtype=np.int32).reshape(-1, 4)
    chunk, kind, start, end = columns.T
    vectors = block.vectors.astype(np.float32)
    texts = (list(block.chunks), list(block.aliases), list(block.questions))
    snapshot = Snapshot(*texts, chunk, kind, start, end, vectors, version="local")
    return Searcher(snapshot, embedder, retrieval, load_reranker(retrieval.reranker))
