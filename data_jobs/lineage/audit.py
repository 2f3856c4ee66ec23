"""What is in a dataset: counts by what matters, extremes and samples, as plain data for whoever prints it (ray-free).

Reads the columns it needs, one file at a time: a large dataset is audited in little memory.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from typing import Any

from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.corpus.report import DROPPED, QUARANTINE
from data_jobs.lineage.graph import document_rows, read_columns

UNKNOWN = "unknown"
PREVIEW_CHARS = 200
_COUNTED = ("source_name", "licence", "owner", "sensitivity", "language", "kind")
_REDACTED = "redacted:"


def audit(store: Store, dataset: Manifest, samples: int = 5, seed: int = 0) -> dict[str, Any]:
    """Look through one dataset.

    Args:
        samples: how many documents to show per list (longest, shortest, oldest, random).
        seed: of the random ones; the same seed shows the same documents.

    Returns:
        ``dataset``, ``created_at``, ``documents``, ``characters``, ``counts`` (as in the manifest), ``by``
        (source_name, licence, owner, sensitivity, language, kind, step: documents each), ``pii`` (per type: pieces
        taken out, and documents they were in), ``duplicates``, ``filtered`` and ``quarantined`` (per reason),
        ``lengths`` (characters: least, quartiles, most), ``longest``, ``shortest``, ``oldest`` (unchanged since which
        version of the dataset), ``samples``.

    Raises:
        IntegrityError: a file cannot be read.
    """
    by: dict[str, Counter[str]] = {name: Counter() for name in (*_COUNTED, "step")}
    in_documents: Counter[str] = Counter()
    lengths: list[int] = []
    longest: list[tuple[int, str]] = []
    shortest: list[tuple[int, str]] = []
    drawn: list[tuple[int, str, dict[str, Any]]] = []
    for rows in document_rows(store, dataset, ("id", "title", "source", "text", "steps", *_COUNTED)):
        for at, name in enumerate(rows["id"]):
            for column in _COUNTED:
                by[column][rows[column][at] or UNKNOWN] += 1
            for step in rows["steps"][at] or ():
                if step.startswith(_REDACTED):
                    in_documents[step.removeprefix(_REDACTED)] += 1
                else:
                    by["step"][step] += 1
            size = len(rows["text"][at])
            lengths.append(size)
            _push(longest, (size, name), samples)
            _push(shortest, (-size, name), samples)
            lot = -int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big")
            if len(drawn) < samples or (drawn and lot > drawn[0][0]):
                text = rows["text"][at][:PREVIEW_CHARS]
                shown = {"id": name, "title": rows["title"][at], "source": rows["source"][at], "text": text}
                _push(drawn, (lot, name, shown), samples)
    dropped = _reasons(store, dataset, DROPPED, "stage")
    lengths.sort()
    return {
        "dataset": f"{dataset.name}@{dataset.version}",
        "created_at": dataset.created_at,
        "documents": len(lengths),
        "characters": sum(lengths),
        "counts": dataset.counts,
        "by": {name: dict(counts.most_common()) for name, counts in by.items()},
        "pii": {
            kind: {"pieces": dataset.counts.get("pii", {}).get(kind, 0), "documents": in_documents.get(kind, 0)}
            for kind in sorted({*dataset.counts.get("pii", {}), *in_documents})
        },
        "duplicates": dropped.get("duplicate", {}),
        "filtered": dropped.get("filtered", {}),
        "quarantined": _reasons(store, dataset, QUARANTINE, "").get("", {}),
        "lengths": {f"p{share}": _quantile(lengths, share) for share in (0, 25, 50, 75, 100)},
        "longest": [{"id": name, "characters": size} for size, name in sorted(longest, reverse=True)],
        "shortest": [{"id": name, "characters": -size} for size, name in sorted(shortest, reverse=True)],
        "oldest": oldest(store, dataset, samples),
        "samples": [shown for _, _, shown in sorted(drawn, key=lambda entry: -entry[0])],
    }


def oldest(store: Store, dataset: Manifest, most: int) -> list[dict[str, str]]:
    """The documents that stand unchanged in the dataset the longest: since when, and since which version."""
    left = dict(_contents(store, dataset))
    for version in store.versions(dataset.kind, dataset.name):
        if version.created_at > dataset.created_at:
            break
        there = left if version.version == dataset.version else dict(_contents(store, version))
        found = sorted(name for name, content in there.items() if left.get(name) == content)
        if found:
            since = {"since": version.created_at, "version": f"{version.name}@{version.version}"}
            return [{"id": name, **since} for name in found[:most]]
    return []


def _contents(store: Store, dataset: Manifest) -> list[tuple[str, str]]:
    """(id, hash of the text) of every document."""
    return [
        (name, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
        for rows in document_rows(store, dataset, ("id", "text"))
        for name, text in zip(rows["id"], rows["text"], strict=True)
    ]


def _reasons(store: Store, dataset: Manifest, file: str, group: str) -> dict[str, dict[str, int]]:
    if not any(entry.path == file for entry in dataset.files):
        return {}
    rows = read_columns(store, dataset, file, ("reason", group) if group else ("reason",))
    groups = rows[group] if group else [""] * len(rows["reason"])
    counts: dict[str, Counter[str]] = {}
    for name, reason in zip(groups, rows["reason"], strict=True):
        counts.setdefault(name, Counter())[reason] += 1
    return {name: dict(found.most_common()) for name, found in counts.items()}


def _push(heap: list[Any], entry: tuple[Any, ...], most: int) -> None:
    """Keep the ``most`` greatest entries."""
    if len(heap) < most:
        heapq.heappush(heap, entry)
    elif heap and entry > heap[0]:
        heapq.heapreplace(heap, entry)


def _quantile(ordered: list[int], share: int) -> int:
    return ordered[min(len(ordered) - 1, share * len(ordered) // 100)] if ordered else 0
