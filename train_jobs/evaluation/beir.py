"""Retrieval quality on any folder in BEIR form: each list alone and fused, with intervals.

A folder holds ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``) and ``qrels.tsv``
(or ``qrels/test.tsv``): query-id, corpus-id, score, with a header line. Documents are cut, embedded and searched by the
code that serves. Measures as in Thakur et al. 2021 (BEIR) and trec_eval: nDCG@10 with linear gains, recall@5, @10 and
@100, reciprocal rank of the first relevant document; means over queries with 95 % bootstrap intervals (Efron 1979).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.records import Chunk, Document
from data_jobs.retrieval.embedder import Embedder
from train_jobs.evaluation.local_index import searcher_over

SYSTEMS = ("bm25", "dense", "fused")
MEASURES = ("ndcg@10", "recall@5", "recall@10", "recall@100", "mrr")
QRELS = ("qrels.tsv", "qrels/test.tsv")
DEPTH = 100
RESAMPLES = 1000
SEED = 7


@dataclass(frozen=True)
class BeirData:
    """A corpus, the queries that have judgements, and per query the documents' grades (above 0 is relevant)."""

    name: str
    documents: tuple[Document, ...]
    queries: dict[str, str]
    judged: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Mean:
    """A mean over queries with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RetrievalResult:
    """``scores[system][measure]``; see ``SYSTEMS`` and ``MEASURES``."""

    data: str
    embedder: str
    documents: int
    chunks: int
    queries: int
    scores: dict[str, dict[str, Mean]]
    latency_ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values for JSON; a mean becomes ``{"value", "low", "high"}``."""
        scores = {
            system: {measure: vars(mean) for measure, mean in table.items()} for system, table in self.scores.items()
        }
        return {**vars(self), "scores": scores}

    def rows(self) -> list[tuple[str, ...]]:
        """Lines of a table: system, then each measure with its interval."""
        return [
            (system, *(f"{table[m].value:.3f} [{table[m].low:.3f}, {table[m].high:.3f}]" for m in MEASURES))
            for system, table in self.scores.items()
        ]


def load_beir(folder: Path) -> BeirData:
    """Read a folder in BEIR form.

    Raises:
        BadInputError: a file is missing or a line is not what it should be (file and line are named); a judgement is
            of no document or query.
    """
    documents = []
    for where, row in _rows(folder / "corpus.jsonl"):
        text = _text(row, "text", where)
        documents.append(Document(_text(row, "_id", where), str(row.get("title") or ""), text, where, kind="record"))
    queries = {_text(row, "_id", where): _text(row, "text", where) for where, row in _rows(folder / "queries.jsonl")}
    path = next((folder / name for name in QRELS if (folder / name).is_file()), folder / QRELS[0])
    judged: dict[str, dict[str, float]] = {}
    known = {document.id for document in documents}
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split("\t")
        if number == 1 and parts[-1].strip().lower() == "score":
            continue
        try:
            query, document, grade = parts[0], parts[1], float(parts[2])
        except (IndexError, ValueError):
            raise BadInputError(f"{path}:{number}: not query-id, corpus-id and score between tabs") from None
        if query not in queries or document not in known:
            raise BadInputError(f"{path}:{number}: there is no query {query} or no document {document}")
        judged.setdefault(query, {})[document] = grade
    judged = {query: grades for query, grades in judged.items() if any(grade > 0 for grade in grades.values())}
    if not judged:
        raise BadInputError(f"{path}: no query has a relevant document")
    kept = tuple(d for d in documents if d.text.strip())
    return BeirData(folder.name, kept, {query: queries[query] for query in judged}, judged)


def run_retrieval(
    data: BeirData,
    config: PlinthConfig,
    embedder: Embedder,
    cache: Path | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> RetrievalResult:
    """Rank the documents for every judged query and score the rankings.

    Args:
        config: ``index`` and ``retrieval`` are used as the service uses them.
        cache: folder to keep vectors in between runs.
        on_step: told (stage, done, total): progress.
    """
    searcher = searcher_over(data.documents, config.index, config.retrieval, embedder, cache, data.name, on_step)
    per_query: dict[str, dict[str, list[float]]] = {system: {m: [] for m in MEASURES} for system in SYSTEMS}
    took = []
    for done, (query, text) in enumerate(data.queries.items(), start=1):
        lexical, dense = searcher.scores(text)
        began = time.perf_counter()
        found = searcher.search(text, DEPTH)
        took.append((time.perf_counter() - began) * 1000)
        rankings = {
            "bm25": _documents(searcher.snapshot.chunks, lexical, above=0.0),
            "dense": _documents(searcher.snapshot.chunks, dense, above=-2.0),
            "fused": [passage.document for passage in found.passages],
        }
        for system, ranking in rankings.items():
            for measure, value in scored(ranking, data.judged[query]).items():
                per_query[system][measure].append(value)
        if on_step:
            on_step("ask", done, len(data.queries))
    scores = {system: {m: bootstrapped(values) for m, values in table.items()} for system, table in per_query.items()}
    latency = {f"p{q}": round(float(np.percentile(took, q)), 2) for q in (50, 95)}
    chunks = len(searcher.snapshot.chunks)
    name = str(embedder.identity["name"])
    return RetrievalResult(data.name, name, len(data.documents), chunks, len(data.queries), scores, latency)


def scored(ranking: Sequence[str], grades: Mapping[str, float]) -> dict[str, float]:
    """The measures of one ranking (best first, no document twice) under the judgements of one query."""
    gains = [max(0.0, grades.get(document, 0.0)) for document in ranking[:DEPTH]]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    first = next((rank for rank, gain in enumerate(gains, start=1) if gain > 0), None)
    return {
        "ndcg@10": _dcg(gains[:10]) / _dcg(ideal[:10]),
        "recall@5": sum(gain > 0 for gain in gains[:5]) / len(ideal),
        "recall@10": sum(gain > 0 for gain in gains[:10]) / len(ideal),
        "recall@100": sum(gain > 0 for gain in gains) / len(ideal),
        "mrr": 1 / first if first else 0.0,
    }


def bootstrapped(values: Sequence[float]) -> Mean:
    """The mean with the percentile interval of ``RESAMPLES`` resamples; the same for the same values."""
    array = np.asarray(values)
    picks = np.random.default_rng(SEED).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.percentile(array[picks].mean(axis=1), [2.5, 97.5])
    return Mean(round(float(array.mean()), 4), round(float(low), 4), round(float(high), 4))


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


def _documents(chunks: Sequence[Chunk], scores: np.ndarray, above: float) -> list[str]:
    """Documents in the order of their best chunks."""
    found: dict[str, None] = {}
    for row in np.argsort(-scores, kind="stable"):
        if len(found) == DEPTH or scores[row] <= above:
            break
        found.setdefault(chunks[row].document)
    return list(found)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInputError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadInputError(f"{path}:{number}: not a JSON object")
        yield f"{path.name}:{number}", row


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise BadInputError(f"{where}: {field} is missing or not text")
    return value


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as handle:
            yield from handle
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"cannot read {path}: {error}; --data is a folder in BEIR form") from error
