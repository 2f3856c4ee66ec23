"""The retriever's replica as a plain class: embedder, live indexes and reader, searched and read in a thread.

Blocking work (embedding, searching, reading, loading an index) runs in threads: in Serve's fast mode user code shares
the replica's event loop, and blocking it would stall its health checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.records import CODE_KINDS, Manifest
from cluster.core.storage import INDEXES, LIVE, Store
from serve_apps.gateway.protocols import Recorder
from serve_apps.metrics.index import IndexMetrics
from serve_apps.replicas.collections import HeldCollections, answering
from serve_apps.replicas.forgotten import Forgotten
from serve_apps.replicas.live import Live
from serve_apps.replicas.searches import Searches
from serve_apps.scaling.load import TEXTS, CountedThreads, Load

if TYPE_CHECKING:
    from data_jobs.retrieval.examples import Example
    from data_jobs.retrieval.results import Retrieval
    from data_jobs.retrieval.search import Searcher


class RetrieverReplica:
    """Holds the embedder and the collections that are asked; follows their live versions in the background."""

    def __init__(self, config: PlinthConfig, recorder: Recorder | None = None) -> None:
        from data_jobs.retrieval.embedder import load_embedder
        from data_jobs.retrieval.passage_reader import load_passage_reader
        from data_jobs.retrieval.question_vectors import QuestionVectors
        from data_jobs.retrieval.rerank import load_reranker

        home = Home.from_env()
        self._config = config
        self._embedder = load_embedder(config.index, threads=config.serve.embed_threads)
        self._reranker = load_reranker(config.retrieval.reranker)
        self._reader = load_passage_reader(config.retrieval.reader, config.serve.embed_threads)
        self._vectors = QuestionVectors(self._embedder)
        self.load = Load(TEXTS)
        # One thread: neither embedder nor searcher is thread-safe.
        self._work = CountedThreads(self.load, 1, thread_name_prefix="search")
        self._viewing = ThreadPoolExecutor(1, thread_name_prefix="make-views")
        self._searches = Searches(self._work.submit_uncounted, self._vectors.prepare, self.load)
        store = Store(home.store_uri)
        self._store, self._cache = store, home.root / "cache"
        self._forgotten = Forgotten("retriever", store, self._searchers)
        self._metrics = IndexMetrics(recorder) if recorder else None
        self._made: WeakKeyDictionary[Searcher, dict[str, tuple[Any, int, list[Any]]]] = WeakKeyDictionary()
        self._held = HeldCollections(store, config.index.name, self._live_of, config.serve.collections_mb << 20)
        self._forgotten.refresh()
        self._held.start()

    def _live_of(self, name: str) -> Live[Searcher]:
        """Follows the live version of one collection."""
        store = self._store

        def earlier() -> list[str]:
            return [move["version"] for move in store.alias_history(INDEXES, name, LIVE)]

        def load(folder: Path, manifest: Manifest) -> Searcher:
            return self._load(folder, manifest, live.current.thing if live.current else None)

        live: Live[Searcher] = Live(
            "retriever", store, INDEXES, name, lambda: store.alias(INDEXES, name, LIVE), load, self._cache,
            earlier=earlier,
        )  # fmt: skip
        return live

    def _load(self, folder: Path, manifest: Manifest, before: Searcher | None) -> Searcher:
        from data_jobs.retrieval.risk import read_evidence
        from data_jobs.retrieval.search import Searcher
        from data_jobs.retrieval.snapshot import Snapshot

        snapshot = Snapshot.load(folder, manifest, self._embedder.asks, before.snapshot if before else None)
        evidence = read_evidence(folder)
        if any(chunk.kind not in CODE_KINDS for chunk in snapshot.chunks):
            self._reader.warm()  # of documented code alone it is never asked
        promised = None
        if evidence is not None and evidence.judged:
            promised = evidence.promise(self._config.answer.max_risk, self._reader.fingerprint)
        threshold = promised.threshold if promised else None
        searcher = Searcher(
            snapshot, self._embedder, self._config.retrieval, self._reranker, self._reader, threshold, self._vectors
        )  # fmt: skip
        self._forgotten.hide_in(searcher)
        searcher.warm()
        return searcher

    def _searchers(self) -> list[Searcher]:
        return [loaded.thing for loaded in self._held.loaded]

    async def search(
        self, question: str, k: int | None = None, collection: str = "", rights: Rights = NO_RIGHTS
    ) -> Retrieval:
        """Passages for a question from the live index of a collection, by default of the default one, out of documents
        that these rights let read.

        Raises:
            ApiError: 404, there is no such collection.
            UnavailableError: no index is live yet, or the collection cannot be loaded.
        """
        async with self._held.use(collection) as loaded:
            searcher = await self._seen(loaded.thing, rights)
            forgotten = self._forgotten.applied(loaded.thing)  # before: what is forgotten meanwhile may still be found
            found = await self._searches.search(searcher, question, k)
        if self._metrics is not None:
            self._metrics.searched(found, loaded.manifest if loaded is self._held.default else None)
        return replace(found, collection=loaded.manifest.name, forgotten=forgotten)

    async def search_many(
        self, searches: list[tuple[str, int | None, str, Rights, dict[str, Any]]]
    ) -> list[Retrieval | BaseException]:
        """The searches of several requests: arguments of ``search``, and whose trace (its keywords). The result of
        each, or what went wrong with it, in their order."""
        work = [
            self.search(question, k, collection, rights, **trace) for question, k, collection, rights, trace in searches
        ]
        return await asyncio.gather(*work, return_exceptions=True)

    async def _seen(self, whole: Searcher, rights: Rights) -> Searcher:
        """What these rights let see of an index; where nobody with such rights asked it before, that is made first."""
        if (view := whole.views.known(rights)) is not None:
            return view
        return await asyncio.get_running_loop().run_in_executor(self._viewing, whole.views.of, rights)

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """One unit vector for each text, in their order. A few texts at a time, so that a search gets its turn in
        between."""
        vectors: list[list[float]] = [[]] * len(texts)
        await asyncio.to_thread(self._embedder.warm)  # the first time that takes a second, for which no search waits
        with self.load.doing(len(texts)) as work:

            def encoded(few: list[str]) -> list[list[float]]:
                work.begun()
                return self._embedder.encode(few).tolist()

            for places in self._embedder.batches(texts):
                made = self._work.submit_uncounted(encoded, [texts[place] for place in places])
                for place, vector in zip(places, await asyncio.wrap_future(made), strict=True):
                    vectors[place] = vector
                work.less(len(places))
        return vectors

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        """The version of what embeds questions, and one unit vector for each text, as a search would make it."""
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._work, self._vectors.of_all, texts)
        return self._embedder.asks, vectors.tolist()

    async def info(self) -> dict[str, Any]:
        """What the live index of the default collection is.

        Raises:
            UnavailableError: no index is live yet.
        """
        async with self._held.use() as loaded:
            facts = answering(loaded)
        return {**facts, "embedder": self._embedder.identity.get("name"), "reader": self._reader.reads}

    async def collections(self) -> list[dict[str, Any]]:
        """What is known of every collection, by name; of those that are not loaded by their manifest. ``forgotten``:
        how many decisions to forget its answers heed."""
        applied = {loaded.manifest.name: self._forgotten.applied(loaded.thing) for loaded in self._held.loaded}
        return [
            {**card, "forgotten": applied.get(card["collection"], self._forgotten.known)}
            for card in await self._held.cards()
        ]

    async def examples(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> tuple[str, list[Example]]:
        """The version of a collection's live index, and at most ``count`` questions that it can be asked, of documents
        that these rights let read; made once a version.

        Raises:
            ApiError: 404, there is no such collection.
            UnavailableError: no index is live yet, or the collection cannot be loaded.
        """
        from data_jobs.retrieval.examples import example_questions

        return await self._of_live("examples", example_questions, count, collection, rights)

    async def topics(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> list[str]:
        """At most ``count`` things that the documents of a collection are about, of those that these rights let read;
        made once a version.

        Raises:
            ApiError: 404, there is no such collection.
            UnavailableError: no index is live yet, or the collection cannot be loaded.
        """
        from data_jobs.retrieval.examples import topics

        return (await self._of_live("topics", topics, count, collection, rights))[1]

    async def _of_live(
        self, name: str, make: Callable[..., list[Any]], count: int, collection: str, rights: Rights
    ) -> tuple[str, list[Any]]:
        """The live version, and what is made of it; anew where the index, what is hidden of it or ``count`` changed."""
        async with self._held.use(collection) as loaded:
            searcher = await self._seen(loaded.thing, rights)
            of_searcher = self._made.setdefault(searcher, {})
            hidden, kept = searcher.hidden, of_searcher.get(name)
            if kept is None or kept[0] is not hidden or kept[1] != count:
                loop = asyncio.get_running_loop()
                made = await loop.run_in_executor(None, make, searcher.snapshot, hidden.tolist(), count)
                of_searcher[name] = kept = (hidden, count, made)
            return searcher.snapshot.version, kept[2]

    async def check_health(self) -> None:
        """Serve calls this every few seconds: it also (re)starts the follower, which needs the running loop."""
        self.follow()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls this every second where the number of replicas follows the load."""
        return self.load.stats()

    def follow(self) -> None:
        """Start following the collections and the list of forgotten documents, once."""
        self._held.follow(self._config.retrieval.refresh_s)
        self._forgotten.follow()
        if self._metrics is not None and (default := self._held.default) is not None:
            self._metrics.serving(default.manifest)
