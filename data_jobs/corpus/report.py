"""What became of every file and record of a dataset, as plain data for whoever prints it."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cluster.core.errors import PlinthError
from cluster.core.records import Dropped, Manifest, Quarantined
from cluster.core.storage import Store
from data_jobs.corpus.parquet import read_table

REPORT = "report.json"
QUARANTINE = "quarantine.parquet"
DROPPED = "dropped.parquet"


def ledger(
    *,
    files_seen: int,
    kept: int,
    dropped: Sequence[Dropped],
    quarantined: Sequence[Quarantined],
    pii: dict[str, int],
    words: int,
    questions: int = 0,
    questions_unplaced: int = 0,
    skipped: dict[str, int] | None = None,
) -> dict[str, Any]:
    """The counts of a dataset's manifest. Records: in = kept + duplicates + filtered + quarantined.

    A file that could not be read at all (an entry without ``record``) is counted among the files only. ``questions``
    are those of the kept documents; ``questions_unplaced`` were shipped for names that this Python does not have.
    ``skipped`` counts what is inside of kept documents and no text of theirs (``html hidden``, ``pdf images``).
    """  # fmt: skip
    files = [q for q in quarantined if not q.record]
    records = [q for q in quarantined if q.record]
    duplicates = sum(d.stage == "duplicate" for d in dropped)
    reasons = Counter(d.reason for d in dropped) + Counter(q.reason for q in quarantined)
    return {
        "files_seen": files_seen,
        "files_read": files_seen - len(files),
        "files_quarantined": len(files),
        "records_in": kept + len(dropped) + len(records),
        "kept": kept,
        "duplicates": duplicates,
        "filtered": len(dropped) - duplicates,
        "quarantined": len(records),
        "reasons": dict(sorted(reasons.items())),
        "pii": dict(sorted(pii.items())),
        "words": words,
        "questions": questions,
        "questions_unplaced": questions_unplaced,
        "skipped": dict(sorted((skipped or {}).items())),
    }


def check_balance(counts: dict[str, Any]) -> None:
    """Refuse to publish books that do not balance.

    Raises:
        PlinthError: a record or file is unaccounted for.
    """
    out = counts["kept"] + counts["duplicates"] + counts["filtered"] + counts["quarantined"]
    if counts["records_in"] != out or counts["files_seen"] != counts["files_read"] + counts["files_quarantined"]:
        raise PlinthError(f"records do not add up: {counts['records_in']} in, {out} out: {json.dumps(counts)}")


def quarantined(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """Every file and record of a dataset that could not be read: source, record, reason, detail; files first."""
    if not manifest.counts["quarantined"] and not manifest.counts["files_quarantined"]:
        return []
    return sorted(_rows(store, manifest, QUARANTINE), key=lambda q: (bool(q["record"]), q["source"], q["record"]))


def load_report(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The report of a dataset.

    Returns:
        ``dataset`` (``name@version``), ``source``, ``created_at``, ``counts`` (see ``ledger``), ``quarantined`` (see
        there) and ``dropped`` (document, source, stage, reason, kept).
    """
    return {
        "dataset": f"{manifest.name}@{manifest.version}",
        "source": manifest.inputs.get("source", ""),
        "created_at": manifest.created_at,
        "counts": manifest.counts,
        "quarantined": quarantined(store, manifest),
        "dropped": _rows(store, manifest, DROPPED),
    }


def _rows(store: Store, manifest: Manifest, name: str) -> list[dict[str, Any]]:
    return list(read_table(store.read(posixpath.join(store.artefact(manifest), name))).to_pylist())
