"""Forgotten documents in a running retriever: the store's tombstones, polled, become a mask over every index it holds.

Polled in a thread of its own, so that loading a large index does not delay it. A list of tombstones that cannot be
read, or was tampered with, changes nothing that is known: what was forgotten stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cluster.core.errors import PlinthError
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.governance.tombstones import Tombstones, read_tombstones

if TYPE_CHECKING:
    from data_jobs.retrieval.search import Searcher

POLL_S = 0.5


class Forgotten:
    """Keeps what is forgotten out of searchers.

    Args:
        component: whose log tells of it.
        store: where tombstones are.
        serving: the searchers that serve now.
    """

    def __init__(self, component: str, store: Store, serving: Callable[[], Sequence[Searcher]]) -> None:
        self._component, self._store, self._serving = component, store, serving
        self._known = Tombstones()
        self._applied: WeakKeyDictionary[Searcher, int] = WeakKeyDictionary()  # the tombstones each knows of
        self._problem = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forgotten")
        self._follower: asyncio.Task[None] | None = None

    def refresh(self) -> None:
        """Read new tombstones and hide what they cover in every index. Blocking; never raises for a bad list."""
        self._read()
        for searcher in self._serving():
            if self._applied.get(searcher) != self._known.generation:
                self.hide_in(searcher)

    def hide_in(self, searcher: Searcher) -> None:
        """Hide in a searcher what is known to be forgotten: also called before it goes live."""
        known = self._known
        chunks = searcher.snapshot.chunks if known else []
        documents = {chunk.document: chunk.source for chunk in chunks}
        documents |= {copy.document: copy.source for chunk in chunks for copy in chunk.also}
        covered = [name for name, source in documents.items() if known.covers(name, "", source)]
        searcher.hide(covered)
        self._applied[searcher] = known.generation
        if known:
            log_event(self._component, "forgotten", tombstones=known.generation, documents_hidden=len(covered),
                      index_version=searcher.snapshot.version)  # fmt: skip

    def applied(self, searcher: Searcher) -> int:
        """How many decisions to forget a searcher heeds, at least."""
        return self._applied.get(searcher, 0)

    @property
    def known(self) -> int:
        """How many decisions to forget are known: an index that is loaded from now on heeds them all."""
        return self._known.generation

    def _read(self) -> None:
        try:
            self._known = read_tombstones(self._store, self._known)
            self._problem = ""
        except (PlinthError, OSError) as error:
            if str(error) != self._problem:
                log_event(self._component, "tombstones_unreadable", error=str(error), known=self._known.generation)
            self._problem = str(error)

    def follow(self) -> None:
        """Refresh every POLL_S from now on, once however often it is called; needs the running loop."""
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, self.refresh)
            await asyncio.sleep(POLL_S)
