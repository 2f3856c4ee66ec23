"""What the retriever reports about its index: age, size, build time, latency and how often it finds something."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from cluster.core.records import Manifest
from serve_apps.gateway.protocols import Recorder

if TYPE_CHECKING:
    from data_jobs.retrieval.results import Retrieval

WEAK_COSINE = 0.35  # the best cosine of questions that a corpus cannot answer lies at or below it


class IndexMetrics:
    """Turns searches and the serving version into metrics."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def searched(self, found: Retrieval, serving: Manifest | None) -> None:
        """Count one search: ``hit``, ``weak`` (nothing resembles the question) or ``empty``. ``serving``: of the
        version searched where it is the default collection's."""
        weak = found.features.get("top_dense", 0.0) <= WEAK_COSINE
        outcome = "empty" if not found.passages else "weak" if weak else "hit"
        self._recorder.record("plinth_retrievals_total", 1, {"outcome": outcome})
        self._recorder.record("plinth_retrieval_ms", sum(found.timings_ms.values()), {})
        if serving is not None:
            self.serving(serving)

    def serving(self, manifest: Manifest) -> None:
        """Report the version that the default collection answers from."""
        age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(manifest.created_at)
        self._recorder.record("plinth_index_age_seconds", max(0.0, age.total_seconds()), {})
        for metric, count in (("build_seconds", "seconds"), ("documents", "documents"), ("chunks", "chunks")):
            if isinstance(manifest.counts.get(count), int | float):
                self._recorder.record(f"plinth_index_{metric}", float(manifest.counts[count]), {})
