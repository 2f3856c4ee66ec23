"""How well deduplication finds near duplicates: pairs and clusters against exact similarities.

The data are a folder with ``docs.jsonl`` (id, text) and ``pairs.tsv`` (id_a, id_b, exact Jaccard similarity of word
5-shingles). *Found* is what the corpus pipeline does to these documents: normalise, sketch, compare, cluster.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError
from cluster.core.records import Document
from data_jobs.filters.dedup import Fingerprint, deduplicate, fingerprint, near_pairs
from data_jobs.text.normalise import normalise

THRESHOLDS = (0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class DedupScore:
    """At one threshold.

    Attributes:
        pairs, found, right: listed pairs at or above the threshold; listed pairs that hashing and verification find;
            both.
        clusters, clusters_found: with two members or more: connected components of the true pairs, and those found.
        pairwise_precision, pairwise_recall, pairwise_f1: over pairs of documents in one cluster.
        ari: adjusted Rand index of the two clusterings (Hubert and Arabie 1985), 1 for equal ones.
    """

    threshold: float
    pairs: int
    found: int
    right: int
    precision: float
    recall: float
    clusters: int
    clusters_found: int
    pairwise_precision: float
    pairwise_recall: float
    pairwise_f1: float
    ari: float


@dataclass(frozen=True)
class DedupResult:
    """What one run of the suite found.

    Attributes:
        data: path of the folder.
        documents, listed_pairs: how many the folder holds.
        scores: one for each threshold, in the order asked for.
    """

    data: str
    documents: int
    listed_pairs: int
    scores: tuple[DedupScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values for JSON, with the name of the suite."""
        return {"suite": "dedup", **asdict(self)}

    def lines(self) -> list[tuple[str, ...]]:
        """Lines of a table: threshold, pairs, recall, precision, clusters (true, found), pairwise F1, ARI."""
        return [
            (f"{s.threshold:g}", str(s.pairs), f"{s.recall:.3f}", f"{s.precision:.3f}", str(s.clusters),
             str(s.clusters_found), f"{s.pairwise_f1:.3f}", f"{s.ari:.3f}")
            for s in self.scores
        ]  # fmt: skip


def score_dedup(
    path: Path, thresholds: Sequence[float] = THRESHOLDS, on_document: Callable[[int], None] | None = None
) -> DedupResult:
    """Deduplicate the documents at each threshold and compare.

    Args:
        on_document: called with the number of documents after each sketch: progress.

    Raises:
        BadInputError: the folder has not the two files in this form.
    """
    documents, truth = _read(path)
    sketches: list[Fingerprint] = []
    for document in documents:
        sketches.append(fingerprint(document))
        if on_document:
            on_document(len(documents))
    texts = {document.id: document.text for document in documents}
    scores = tuple(_score(sketches, texts, truth, threshold) for threshold in thresholds)
    return DedupResult(str(path), len(documents), len(truth), scores)


def _read(path: Path) -> tuple[list[Document], dict[tuple[str, str], float]]:
    try:
        # A text may hold what ends a line to Python (U+2028).
        lines = (path / "docs.jsonl").read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        documents = [Document(row["id"], row["id"], normalise(row["text"]), row["id"]) for row in rows]
        with open(path / "pairs.tsv", newline="", encoding="utf-8") as handle:
            pairs = list(csv.reader(handle, delimiter="\t"))
        named = next(i for i, name in enumerate(pairs[0]) if name.startswith("jaccard"))
        truth = {(min(row[:2]), max(row[:2])): float(row[named]) for row in pairs[1:]}
    except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        raise BadInputError(
            f"{path} needs docs.jsonl (id, text) and pairs.tsv (id_a, id_b, ..., jaccard...): {error!r}"
        ) from error
    known = {document.id for document in documents}
    strangers = {name for pair in truth for name in pair} - known
    if strangers or len(known) < len(documents):
        raise BadInputError(f"{path}: pairs.tsv names documents that docs.jsonl has not, or an id stands there twice")
    return documents, truth


def _score(
    sketches: Sequence[Fingerprint],
    texts: Mapping[str, str],
    truth: Mapping[tuple[str, str], float],
    threshold: float,
) -> DedupScore:
    wanted = {pair for pair, similarity in truth.items() if similarity >= threshold}
    joined = near_pairs(sketches, texts.__getitem__, threshold)
    found = {(min(pair), max(pair)) for pair in joined} & truth.keys()
    kept = {d.dropped: d.kept for d in deduplicate(sketches, texts.__getitem__, threshold)}
    got = {name: kept.get(name, name) for name in texts}
    gold = components(texts, wanted)
    precision, recall, f1, ari = compare_clusters(gold, got)
    right = len(wanted & found)
    return DedupScore(
        threshold, len(wanted), len(found), right, right / len(found) if found else 1.0,
        right / len(wanted) if wanted else 1.0, _several(gold), _several(got), precision, recall, f1, ari,
    )  # fmt: skip


def components(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Connected components: each name's representative."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for left, right in pairs:
        parent[root(right)] = root(left)
    return {name: root(name) for name in parent}


def _several(clusters: Mapping[str, str]) -> int:
    return sum(size > 1 for size in Counter(clusters.values()).values())


def compare_clusters(gold: Mapping[str, str], got: Mapping[str, str]) -> tuple[float, float, float, float]:
    """(pairwise precision, recall, F1, adjusted Rand index) of two clusterings of the same names."""

    def pairs(sizes: Iterable[int]) -> int:
        return sum(n * (n - 1) // 2 for n in sizes)

    both = pairs(Counter((gold[name], got[name]) for name in gold).values())
    in_gold, in_got = pairs(Counter(gold.values()).values()), pairs(Counter(got.values()).values())
    precision, recall = both / in_got if in_got else 1.0, both / in_gold if in_gold else 1.0
    f1 = 2 * both / (in_gold + in_got) if in_gold + in_got else 1.0
    every = pairs([len(gold)])
    chance = in_gold * in_got / every if every else 0.0
    highest = (in_gold + in_got) / 2
    return precision, recall, f1, (both - chance) / (highest - chance) if highest != chance else 1.0
