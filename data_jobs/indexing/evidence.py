"""The evidence of an index that is being built: gathered on its finished snapshot, written beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Document, Manifest
from cluster.core.storage import Store
from data_jobs.indexing.held_out import gather
from data_jobs.indexing.risk_plot import risk_plot
from data_jobs.retrieval.passage_reader import PassageReader
from data_jobs.retrieval.risk import PLOT_FILE, RISK_FILE, Evidence, carried, read_evidence, write_evidence


@dataclass(frozen=True)
class KeptBytes:
    """What is known so far, in a file of the store that outlives a killed build."""

    store: Store
    path: str

    def read(self) -> bytes:
        """What was written last; nothing at first."""
        return self.store.read(self.path) if self.store.exists(self.path) else b""

    def write(self, content: bytes) -> None:
        """Replace it."""
        self.store.write(self.path, content)


def add_evidence(
    config: PlinthConfig,
    folder: Path,
    documents: Sequence[Document],
    reader: PassageReader,
    progress: Progress,
    kept: KeptBytes,
) -> dict[str, Any]:
    """Ask held-out questions of the snapshot in ``folder`` and write what they show beside it; counts for its manifest.

    Args:
        documents: what the snapshot was made of.
        kept: answers of an earlier run of this build, which are not asked again.
    """
    from data_jobs.retrieval.embedder import load_embedder
    from data_jobs.retrieval.rerank import load_reranker
    from data_jobs.retrieval.search import Searcher
    from data_jobs.retrieval.snapshot import Snapshot

    embedder = load_embedder(config.index, threads=config.serve.embed_threads)
    unnamed = Manifest("indexes", config.index.name, "", "", ())
    snapshot = Snapshot.load(folder, unnamed, embedder.asks)
    searcher = Searcher(snapshot, embedder, config.retrieval, load_reranker(config.retrieval.reranker), reader)
    evidence = gather(searcher, documents, progress, kept.read(), kept.write)
    write(evidence, config.answer.max_risk, folder, config.index.name)
    return summary(evidence, config.answer.max_risk)


def write(evidence: Evidence, max_risk: float, folder: Path, name: str) -> None:
    """JSON and PNG into the folder of an index that is being made; ``name`` is the index's."""
    write_evidence(evidence, max_risk, folder)
    (folder / PLOT_FILE).write_bytes(risk_plot(evidence, max_risk, f"Index {name}: risk of its answers"))


def summary(evidence: Evidence, max_risk: float) -> dict[str, Any]:
    """Counts of a manifest: held-out questions, and the threshold and coverage of the promise where there is one."""
    promised = evidence.promise(max_risk)
    found: dict[str, Any] = {"held_out_questions": len(evidence.judged)}
    if promised:
        point = promised.point
        found |= {"promised_risk": max_risk, "threshold": point.threshold, "coverage": round(point.coverage, 3)}
    return found


def carry_evidence(before: Path, folder: Path, version: str) -> None:
    """Give the next version of an index what was known of ``version``: it differs in a few documents only."""
    evidence = read_evidence(before)
    if evidence is None:
        return
    import json

    max_risk = float(json.loads((before / RISK_FILE).read_text(encoding="utf-8"))["max_risk"])
    write_evidence(carried(evidence, version), max_risk, folder)
    if (before / PLOT_FILE).is_file():
        (folder / PLOT_FILE).write_bytes((before / PLOT_FILE).read_bytes())
