"""How fast and how exact searching a large index is: one core, chunks made from real texts by seeded shuffles.

Texts of a few thousand documents are enlarged to the wanted number of chunks: each chunk is some sentences of one
document in another order, so that words and their frequencies stay those of the texts. A chunk's vector is that of the
mean of its sentences' vectors with a little seeded noise: embedding every chunk would take hours and change neither the
speed nor how vectors cluster. Questions are sentences of documents, embedded by the model that serves.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from cluster.core.errors import BadInputError
from cluster.core.records import Chunk
from cluster.core.sections.data import RetrievalSection
from data_jobs.retrieval.dense import DenseIndex, PatchedDense
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.segments import CHUNK, SENTENCE
from data_jobs.retrieval.snapshot import Snapshot
from data_jobs.text.sentences import sentences

SEED = 7
SENTENCES_PER_CHUNK = 4
CHUNKS_PER_DOCUMENT = 4
BASE_SENTENCES = 8000
MIN_SENTENCE_CHARS = 25
NOISE = 0.15
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
        ``recall_at_10`` of the clustered dense index against exact search; ``search_ms`` (dense, BM25, fusion,
        sentences and features, without embedding the question), ``embed_ms``, ``whole_ms`` with p50 and p95;
        ``search_cpu_ms``: the same as ``search_ms`` in processor time, which other work on the machine does not
        lengthen; seconds to index.
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
    say("make chunks")
    snapshot = _snapshot(base, vectors, chunks)
    say("index")
    began = time.perf_counter()
    searcher = Searcher(snapshot, embedder, section)
    built = time.perf_counter() - began
    say("search")
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
    return {
        "chunks": len(snapshot.chunks),
        "queries": queries,
        "recall_at_10": _recall(searcher, embedder.encode(questions, kind="query")),
        **{f"{stage}_ms": _quantiles(values) for stage, values in stages.items()},
        "stage_p95_ms": {stage: round(float(np.percentile(values, 95)), 2) for stage, values in parts.items()},
        "index_s": round(built, 1),
    }


class _Timed:
    """An embedder that counts its processor seconds."""

    def __init__(self, inner: Embedder) -> None:
        self.inner, self.seconds, self.count_tokens = inner, 0.0, inner.count_tokens

    def encode(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> np.ndarray:
        began = time.thread_time()
        vectors = self.inner.encode(texts, kind=kind)
        self.seconds += time.thread_time() - began
        return vectors


def _snapshot(base: Sequence[Sequence[str]], vectors: np.ndarray, count: int) -> Snapshot:
    picker, noise = random.Random(SEED), np.random.default_rng(SEED)  # noqa: S311
    starts = np.cumsum([0, *map(len, base)])
    chunks: list[Chunk] = []
    units: list[tuple[int, int, int, int]] = []
    every = np.empty((count * (1 + SENTENCES_PER_CHUNK), vectors.shape[1]), dtype=np.float16)
    while len(chunks) < count:
        number = picker.randrange(len(base))
        name = f"document-{len(chunks) // CHUNKS_PER_DOCUMENT}"
        picked = picker.sample(range(len(base[number])), min(SENTENCES_PER_CHUNK, len(base[number])))
        at, row = 0, len(chunks)
        own = vectors[starts[number] + np.array(picked)]
        mean = own.mean(axis=0) + noise.normal(0, NOISE / vectors.shape[1] ** 0.5, vectors.shape[1])
        every[len(units)] = mean / np.linalg.norm(mean)
        units.append((row, CHUNK, 0, 0))
        for place, vector in zip(picked, own, strict=True):
            end = at + len(base[number][place])
            every[len(units)] = vector
            units.append((row, SENTENCE, at, end))
            at = end + 1
        text = " ".join(base[number][place] for place in picked)
        chunks.append(Chunk(f"c{row}", name, name, name, text, 0, len(text), kind="record"))
    chunk, kind, start, end_ = np.array(units, dtype=np.int32).T
    every = every[: len(units)]
    empty: list[tuple[str, ...]] = [()] * len(chunks)
    dense: dict[int, DenseIndex | PatchedDense] = {CHUNK: DenseIndex(every[kind == CHUNK])}
    return Snapshot(chunks, empty, empty, chunk, kind, start, end_, every, "bench", dense=dense)


def _recall(searcher: Searcher, questions: np.ndarray) -> float:
    """Share of the exact ten nearest chunks that the dense index finds among its ten."""
    snapshot = searcher.snapshot
    exact = snapshot.vectors[snapshot.unit_kind == CHUNK].astype(np.float32)
    hits = 0
    for question in questions:
        true = np.argpartition(-(exact @ question), K)[:K]
        hits += len(set(true.tolist()) & set(searcher.dense.search(question, K)[0].tolist()))
    return round(hits / (K * len(questions)), 4)


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95)}
