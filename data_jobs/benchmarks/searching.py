"""How fast, how exact and how large searching a large index is: one core, chunks made from real texts.

Texts of a few thousand documents are enlarged to the wanted number of chunks: each chunk is some sentences of one
document in another order, so that words and their frequencies stay those of the texts. A chunk's vector is that of the
mean of its sentences' vectors with a little seeded noise: embedding every chunk would take hours and change neither the
speed nor how vectors cluster. Questions are sentences of documents, embedded by the model that serves. The index is
written to disk and read back by the code that serves; its memory is that of a process of its own (``footprint.py``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from cluster.core.errors import BadInputError
from cluster.core.records import Chunk
from cluster.core.sections.data import RetrievalSection
from data_jobs.benchmarks.footprint import footprint, load
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.segments import CHUNK, SENTENCE, Unit
from data_jobs.retrieval.snapshot import write_snapshot
from data_jobs.text.sentences import sentences

SEED = 7
SENTENCES_PER_CHUNK = 4
CHUNKS_PER_DOCUMENT = 4
BASE_SENTENCES = 8000
MIN_SENTENCE_CHARS = 25
NOISE = 0.15
MADE = (
    f"each chunk is {SENTENCES_PER_CHUNK} shuffled sentences of a real document, its vector the mean of theirs (real) "
    f"with noise of length {NOISE}: embedding all would take hours"
)
K = 10


def measure(
    texts: Sequence[str],
    embedder: Embedder,
    section: RetrievalSection,
    chunks: int,
    queries: int,
    on_step: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Build an index over ``chunks`` synthetic chunks and time ``queries`` searches, one after the other.

    Args:
        texts: real documents, at least a hundred sentences together.

    Returns:
        ``recall_at_10`` of the dense index and ``fused_recall_at_10`` of the whole search, against the same with every
        vector compared; ``dense_ms`` (the dense index alone), ``search_ms`` (dense, BM25, fusion, sentences and
        features, without embedding the question), ``embed_ms``, ``whole_ms`` with p50 and p95; ``dense_cpu_ms``,
        ``search_cpu_ms``: in processor time, which other work on the machine does not lengthen; seconds to index; what
        ``footprint`` says of disk, memory and loading; ``made``: how chunks and vectors were.
    """
    say = on_step or (lambda _: None)
    picker = random.Random(SEED)  # noqa: S311 (reproducible, not a secret)
    by_document = [[text[a:b] for a, b in sentences(text) if b - a >= MIN_SENTENCE_CHARS] for text in texts]
    by_document = [found for found in by_document if len(found) >= 2]
    picker.shuffle(by_document)
    base: list[list[str]] = []
    while by_document and sum(map(len, base)) < BASE_SENTENCES:
        base.append(by_document.pop())
    if sum(map(len, base)) < 100:
        raise BadInputError("too little text to benchmark with: give a folder or file with more documents")
    say("embed sentences")
    flat = [sentence for found in base for sentence in found]
    asked = [picker.choice(found) for found in (by_document or base)]
    questions = [picker.choice(asked) for _ in range(queries)]
    vectors = embedder.encode(flat)
    with TemporaryDirectory(prefix="plinth-bench-") as scratch:
        say("make chunks")
        made, units, every = _made(base, vectors, chunks)
        say("index")
        began = time.perf_counter()
        names: list[tuple[str, ...]] = [()] * len(made)
        write_snapshot(Path(scratch), made, names, names, units, every, embedder.identity, embedder.fingerprint)
        built = time.perf_counter() - began
        del made, units, every
        say("load")
        size = footprint(Path(scratch), section)
        searcher = Searcher(load(Path(scratch)), embedder, section)
    say("search")
    timed = _times(searcher, embedder, questions)
    say("compare with exact search")
    return {
        "chunks": len(searcher.snapshot.chunks), "queries": queries,
        **_recall(searcher, questions, embedder.encode(questions, kind="query")),
        **timed, "index_s": round(built, 1), **size, "made": MADE,
    }  # fmt: skip


def _times(searcher: Searcher, embedder: Embedder, questions: Sequence[str]) -> dict[str, Any]:
    stages: dict[str, list[float]] = {"embed": [], "search": [], "whole": [], "search_cpu": []}
    timed = _Timed(embedder)
    searcher.embedder = timed  # type: ignore[assignment]  # what a search uses of an embedder
    searcher.search(questions[0])
    parts: dict[str, list[float]] = {}
    for question in questions:
        timed.seconds, cpu, began = 0.0, time.thread_time(), time.perf_counter()
        timings = searcher.search(question).timings_ms
        whole = (time.perf_counter() - began) * 1000
        stages["search_cpu"].append((time.thread_time() - cpu - timed.seconds) * 1000)
        stages["whole"].append(whole)
        stages["embed"].append(timings["embed"])
        stages["search"].append(whole - timings["embed"])
        for stage, value in timings.items():
            parts.setdefault(stage, []).append(value)
    searcher.embedder = embedder
    return {
        "dense_ms": _quantiles(parts["dense"]),
        **{f"{stage}_ms": _quantiles(values) for stage, values in stages.items()},
        "stage_p95_ms": {stage: round(float(np.percentile(values, 95)), 2) for stage, values in parts.items()},
    }


class _Timed:
    """An embedder that counts its processor seconds."""

    def __init__(self, inner: Embedder) -> None:
        self.inner, self.seconds, self.count_tokens, self.identity = inner, 0.0, inner.count_tokens, inner.identity

    def encode(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> np.ndarray:
        began = time.thread_time()
        vectors = self.inner.encode(texts, kind=kind)
        self.seconds += time.thread_time() - began
        return vectors


def _made(base: Sequence[Sequence[str]], vectors: np.ndarray, count: int) -> tuple[list[Chunk], list[Unit], np.ndarray]:
    """``count`` chunks, their units (each chunk and its sentences) and the vectors of these, float16 [units, dim]."""
    picker, noise = random.Random(SEED), np.random.default_rng(SEED)  # noqa: S311
    starts = np.cumsum([0, *map(len, base)])
    chunks: list[Chunk] = []
    units: list[Unit] = []
    every = np.empty((count * (1 + SENTENCES_PER_CHUNK), vectors.shape[1]), dtype=np.float16)
    while len(chunks) < count:
        number = picker.randrange(len(base))
        name = f"document-{len(chunks) // CHUNKS_PER_DOCUMENT}"
        picked = picker.sample(range(len(base[number])), min(SENTENCES_PER_CHUNK, len(base[number])))
        at, row = 0, len(chunks)
        own = vectors[starts[number] + np.array(picked)]
        mean = own.mean(axis=0) + noise.normal(0, NOISE / vectors.shape[1] ** 0.5, vectors.shape[1])
        text = " ".join(base[number][place] for place in picked)
        every[len(units)] = mean / np.linalg.norm(mean)
        units.append(Unit(row, CHUNK, 0, len(text)))
        for place, vector in zip(picked, own, strict=True):
            end = at + len(base[number][place])
            every[len(units)] = vector
            units.append(Unit(row, SENTENCE, at, end))
            at = end + 1
        chunks.append(Chunk(f"c{row}", name, name, name, text, 0, len(text), kind="record"))
    return chunks, units, every[: len(units)]


class _Exact:
    """Compares every vector: what the dense index is measured against. Searched like a ``DenseIndex``."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors.astype(np.float32)

    def search(self, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = self._vectors @ vector
        k = min(k, len(scores))
        rows = np.argpartition(-scores, k - 1)[:k]
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        return rows, scores[rows]


def _recall(searcher: Searcher, questions: Sequence[str], vectors: np.ndarray) -> dict[str, Any]:
    """Share of the ten best of exact search that are found: chunks of the dense index, passages of the whole search;
    and what the dense index takes."""
    snapshot, index = searcher.snapshot, searcher.dense
    exact = _Exact(snapshot.vectors[snapshot.unit_kind == CHUNK])
    dense = fused = wanted = 0
    took = []
    for question, vector in zip(questions, vectors, strict=True):
        began = time.thread_time()
        index.search(vector, searcher.section.candidates)
        took.append((time.thread_time() - began) * 1000)
        dense += len({*exact.search(vector, K)[0].tolist()} & {*index.search(vector, K)[0].tolist()})
        found = {passage.chunk for passage in searcher.search(question, K).passages}
        searcher.dense = exact  # type: ignore[assignment]  # what a search uses of an index
        best = {passage.chunk for passage in searcher.search(question, K).passages}
        searcher.dense = index
        fused, wanted = fused + len(found & best), wanted + len(best)
    return {
        "recall_at_10": round(dense / (K * len(questions)), 4),
        "fused_recall_at_10": round(fused / max(1, wanted), 4),
        "dense_cpu_ms": _quantiles(took),
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95)}
