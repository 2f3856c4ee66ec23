"""The collections that a retriever holds: the default always, others from when they are first asked for.

Together they may take so much memory; for one more, those go that nobody asks now, the longest unused first. Everything
here runs on the event loop but for loading and for looking into the store, which a thread each does: one collection is
loaded at a time, and whoever waits for it waits for all before it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError
from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, LIVE, Collections, Store
from cluster.core.telemetry import log_event
from data_jobs.retrieval.views import MOST_TIMES
from serve_apps.errors import UnavailableError, collection_not_found
from serve_apps.replicas.live import Live, Loaded

if TYPE_CHECKING:
    from data_jobs.retrieval.search import Searcher

MEMORY_PER_BYTE = 4  # bytes of memory for each of an index's files: vectors as they are, texts and postings as objects
NO_INDEX = "no index is live yet: run `plinth quickstart` or `plinth index build`"


@dataclass
class Held:
    """A collection that is or was loaded: ``users`` search in it now, ``used`` is when the last one began."""

    live: Live[Searcher]
    users: int = 0
    used: float = 0.0

    @property
    def bytes(self) -> int:
        """What it takes of the memory while it is loaded."""
        return memory_of(self.live.current.manifest) if self.live.current else 0


class HeldCollections:
    """See the module.

    Args:
        store: where the collections are.
        first: the default while nobody chose one (``index.name``).
        follow: what follows the live version of a collection; nothing is loaded by making it.
        most_bytes: of memory, as ``memory_of`` estimates it. The default and the one asked for are loaded whatever they
            take.
    """

    def __init__(self, store: Store, first: str, follow: Callable[[str], Live[Searcher]], most_bytes: int) -> None:
        self._store, self._collections, self._follow = store, Collections(store, first), follow
        self._most = most_bytes
        self._held: dict[str, Held] = {}
        self._cards: dict[tuple[str, str], dict[str, Any]] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load-indexes")
        self._looker = ThreadPoolExecutor(1, thread_name_prefix="look-for-indexes")
        self._follower: asyncio.Task[None] | None = None
        self._default = self._collections.default

    def start(self) -> None:
        """Load the default collection, if there is one. Blocking."""
        self._default = self._collections.default
        self._entry(self._default).live.refresh()

    @property
    def loaded(self) -> list[Loaded[Searcher]]:
        """What is in memory now."""
        return [held.live.current for held in list(self._held.values()) if held.live.current]

    @property
    def default(self) -> Loaded[Searcher] | None:
        """What answers requests that name no collection."""
        held = self._held.get(self._default)
        return held.live.current if held else None

    @asynccontextmanager
    async def use(self, name: str = "") -> AsyncIterator[Loaded[Searcher]]:
        """A collection, by default the default one, loaded, which is not thrown out meanwhile.

        Raises:
            ApiError: 404, there is no such collection.
            UnavailableError: it cannot be loaded, or nothing was named and no index is live.
        """
        name = name or self._default
        held = self._held.get(name)
        while held is None or held.live.current is None:
            if name == self._default:
                raise UnavailableError(NO_INDEX)
            await self._load(name)
            held = self._held.get(name)
        held.users, held.used = held.users + 1, time.monotonic()
        try:
            yield held.live.current
        finally:
            held.users -= 1
            self._freed.set()

    async def cards(self) -> list[dict[str, Any]]:
        """What is known of every collection, loaded or not, by name."""
        return await _in(self._looker, self._read_cards)

    def follow(self, every_s: float) -> None:
        """From now on notice new versions, other defaults and removed collections; once however often it is called.
        Needs the running loop."""
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._keep_following(every_s))

    async def _keep_following(self, every_s: float) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(every_s)

    async def refresh(self) -> None:
        """Take up the versions that are live now, and the default. Another default is loaded before it answers."""
        wanted = await _in(self._looker, self._wanted)
        if wanted is not None and (wanted != self._default or self.default is None):
            entry = self._entry(wanted)
            async with self._turn:
                await _in(self._loader, entry.live.refresh)
            if entry.live.current is not None and wanted != self._default:
                log_event("retriever", "default_collection", before=self._default, now=wanted)
                self._default = wanted
        for name, held in list(self._held.items()):
            if await _in(self._looker, self._is_gone, name):
                self._drop(name, "removed")
            elif held.live.current is not None or name == self._default:
                async with self._turn:
                    if self._held.get(name) is held:  # not thrown out meanwhile
                        await _in(self._loader, held.live.refresh)
        await self._make_room(0)

    # -- loading -------------------------------------------------------------------------------------------------------
    async def _load(self, name: str) -> None:
        """Load a collection, once for all who wait; who stops waiting does not stop the loading."""
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.get_running_loop().create_task(self._load_one(name))
            task.add_done_callback(lambda done: (self._loading.pop(name) and done.cancelled()) or done.exception())
        await asyncio.shield(task)

    async def _load_one(self, name: str) -> None:
        manifest = await _in(self._looker, self._manifest, name)
        if manifest is None:
            raise collection_not_found(name, await _in(self._looker, lambda: self._collections.names))
        async with self._turn:
            await self._make_room(memory_of(manifest))
            entry = self._entry(name)
            await _in(self._loader, entry.live.refresh)
        if entry.live.current is None:
            raise UnavailableError(f"the index of the collection {name} cannot be loaded: `plinth logs retriever`")

    async def _make_room(self, more: int) -> None:
        """Throw out collections until ``more`` bytes fit in; waits for those that are being searched."""
        dropped = False
        while sum(held.bytes for held in self._held.values()) + more > self._most:
            others = {name: held for name, held in self._held.items() if held.bytes and name != self._default}
            idle = [name for name, held in others.items() if not held.users]
            if idle:
                self._drop(min(idle, key=lambda name: others[name].used), "unused")
                dropped = True
            elif others and more:
                self._freed.clear()
                await self._freed.wait()
            else:
                break
        if dropped:  # a searcher and its parts refer to each other: nothing is free before they are looked for
            await _in(self._loader, gc.collect)

    def _drop(self, name: str, why: str) -> None:
        held = self._held.pop(name, None)
        if held is not None and held.live.current is not None:
            held.live.current = None
            log_event("retriever", "collection_dropped", collection=name, why=why)

    def _entry(self, name: str) -> Held:
        if name not in self._held:
            self._held[name] = Held(self._follow(name), used=time.monotonic())
        return self._held[name]

    # -- in the thread that looks into the store -----------------------------------------------------------------------
    def _wanted(self) -> str | None:
        """The default collection; None while it has no live version."""
        name = self._collections.default
        return name if self._collections.version(name) else None

    def _is_gone(self, name: str) -> bool:
        """Whether a collection was removed. A store that is away as a whole has removed nothing."""
        return self._collections.version(name) is None and self._store.exists(self._store.path(INDEXES))

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return self._store.manifest(INDEXES, name, LIVE) if self._collections.version(name) else None
        except BadInputError:
            return None  # removed since

    def _read_cards(self) -> list[dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for name in self._collections.names:
            key = (name, self._collections.version(name) or "")
            if (kept := self._cards.get(key)) is not None:
                found[key] = kept
            elif (manifest := self._manifest(name)) is not None:
                found[name, manifest.version] = card(manifest)
        self._cards = found
        held = {loaded.manifest.name: loaded for loaded in self.loaded}
        return [
            {**facts, **(answering(held[name]) if name in held else {}), "default": name == self._default,
             "loaded": name in held}
            for (name, _), facts in sorted(found.items())
        ]  # fmt: skip


async def _in(thread: ThreadPoolExecutor, work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


def memory_of(manifest: Manifest) -> int:
    """Bytes that a loaded index takes, about; one with access labels together with its views."""
    times = 1 + MOST_TIMES if manifest.counts.get("access") else 1
    return times * MEMORY_PER_BYTE * sum(entry.bytes for entry in manifest.files)


def card(manifest: Manifest) -> dict[str, Any]:
    """What a collection's index is, by its manifest."""
    counts = manifest.counts
    made_of = manifest.inputs.get("dataset") or manifest.inputs.get("folder", "")
    return {
        "collection": manifest.name, "index_version": manifest.version, "index_as_of": manifest.created_at,
        "made_of": made_of, "documents": counts.get("documents"), "chunks": counts.get("chunks"),
        "threshold": counts.get("threshold"), "promised_risk": counts.get("promised_risk"),
        "coverage": counts.get("coverage"), "access": counts.get("access"),
    }  # fmt: skip


def answering(loaded: Loaded[Searcher]) -> dict[str, Any]:
    """The same of the version that is loaded, which a newer one may be about to replace."""
    return {**card(loaded.manifest), "threshold": loaded.thing.threshold}
