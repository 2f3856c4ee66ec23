"""An index in memory, for evaluation: chunks, vectors and search as in the service, without cluster or storage."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cluster.core.records import Document
from cluster.core.sections.data import IndexSection, RetrievalSection
from data_jobs.indexing.index_blocks import IndexBlock, blocks_of, cut, embed, joined, with_enclosing
from data_jobs.retrieval.embedder import Embedder, load_embedder
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.rerank import load_reranker
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.segments import KnownVectors, unit_keys
from data_jobs.retrieval.snapshot import Snapshot

BLOCK_CHARS = 40_000  # embedded between two steps of progress


class Remembered:
    """Vectors of an earlier run in a file, so that a second run embeds only what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.vectors: KnownVectors | None = None
        if path.exists():
            with np.load(path) as stored:
                self.vectors = KnownVectors([stored["keys"]], [stored["vectors"]])

    def keep(self, block: IndexBlock) -> None:
        """Replace the file by the vectors of a block."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp.npz")
        np.savez(temporary, keys=unit_keys(block.chunks, block.questions, block.units), vectors=block.vectors)
        os.replace(temporary, self.path)


def searcher_over(
    documents: Sequence[Document],
    index: IndexSection,
    retrieval: RetrievalSection,
    embedder: Embedder | None = None,
    cache: Path | None = None,
    name: str = "documents",
    on_step: Callable[[str, int, int], None] | None = None,
) -> Searcher:
    """A searcher over documents, embedded here and now.

    Args:
        embedder: loaded here where not given.
        cache: where to keep vectors between runs; none without it.
        on_step: told "embed", the chunks embedded so far and their number.
    """
    embedder = embedder or load_embedder(index, threads=len(os.sched_getaffinity(0)))
    pieces = cut(with_enclosing(documents), find_model(index), index)
    known = Remembered(cache / f"{name}-{embedder.fingerprint}.npz") if cache else None
    made = []
    for part in blocks_of(pieces, BLOCK_CHARS):
        made.append(embed(part, embedder, known.vectors if known else None))
        if on_step:
            on_step("embed", sum(len(block.chunks) for block in made), len(pieces))
    block = joined(made, embedder.dim)
    if known and block.embedded:
        known.keep(block)
    columns = np.array([(u.chunk, u.kind, u.start, u.end) for u in block.units], dtype=np.int32).reshape(-1, 4)
    chunk, kind, start, end = columns.T
    vectors = block.vectors.astype(np.float32)
    texts = (list(block.chunks), list(block.aliases), list(block.questions))
    snapshot = Snapshot(*texts, chunk, kind, start, end, vectors, version="local")
    return Searcher(snapshot, embedder, retrieval, load_reranker(retrieval.reranker))
