"""The index a retriever answers from: whatever the `live` alias points to, loaded whole and swapped in one assignment.

Requests in flight keep the searcher they started with, so a new index goes live without a restart and without a failed
request. A version that is damaged or belongs to another embedder is refused; the last good one keeps serving.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cluster.core.errors import PlinthError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from cluster.core.telemetry import log_event

SearcherT = TypeVar("SearcherT")
RETRY_REFUSED_S = 30.0


@dataclass(frozen=True)
class Loaded(Generic[SearcherT]):
    """One index in memory."""

    manifest: Manifest
    searcher: SearcherT


class LiveIndex(Generic[SearcherT]):
    """Follows one alias.

    Args:
        store: where indexes are published.
        name: index name (``config.index.name``).
        load: makes a searcher from a verified folder; may raise PlinthError to refuse it.
        cache: local folder for copies of remote indexes.
    """

    def __init__(self, store: Store, name: str, load: Callable[[Path, Manifest], SearcherT], cache: Path) -> None:
        self._store, self._name, self._load, self._cache = store, name, load, cache
        self._refused: tuple[str, float] = ("", 0.0)
        self.current: Loaded[SearcherT] | None = None

    def refresh(self) -> bool:
        """Load the live version if it is another than the current one; True when it was swapped in.

        Blocking (reads and hashes files): call it from a thread. Never raises for a bad index: it is logged, refused
        and tried again after RETRY_REFUSED_S, while the current one keeps serving.
        """
        version = self._store.alias("indexes", self._name, "live")
        if version is None or (self.current is not None and version == self.current.manifest.version):
            return False
        refused, at = self._refused
        if version == refused and time.monotonic() - at < RETRY_REFUSED_S:
            return False
        try:
            manifest = self._store.manifest("indexes", self._name, version)
            folder = self._store.fetch(manifest, self._cache)
            loaded = Loaded(manifest, self._load(folder, manifest))
        except (PlinthError, OSError) as error:
            self._refused = (version, time.monotonic())
            serving = self.current.manifest.version if self.current else "none"
            log_event("retriever", "index_refused", version=version, serving=serving, error=str(error))
            return False
        self.current = loaded
        log_event("retriever", "index_live", version=version, chunks=manifest.counts.get("chunks"))
        return True
