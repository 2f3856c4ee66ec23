"""The retriever's replica as a plain class: embedder, live index and reader, searched and read in a thread.

Blocking work (embedding, searching, reading, loading an index) runs in threads: in Serve's fast mode user code shares
the replica's event loop, and blocking it would stall its health checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.records import CODE_KINDS, Manifest
from cluster.core.storage import Store
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import Recorder
from serve_apps.metrics.index import IndexMetrics
from serve_apps.replicas.forgotten import Forgotten
from serve_apps.replicas.live import Live, Loaded

if TYPE_CHECKING:
    from data_jobs.retrieval.examples import Example
    from data_jobs.retrieval.results import Retrieval
    from data_jobs.retrieval.search import Searcher


class RetrieverReplica:
    """Holds the embedder and the live index; follows the `live` alias in the background."""

    def __init__(self, config: PlinthConfig, recorder: Recorder | None = None) -> None:
        from data_jobs.retrieval.embedder import load_embedder
        from data_jobs.retrieval.passage_reader import load_passage_reader
        from data_jobs.retrieval.rerank import load_reranker

        home = Home.from_env()
        self._config = config
        self._embedder = load_embedder(config.index, threads=config.serve.embed_threads)
        self._reranker = load_reranker(config.retrieval.reranker)
        self._reader = load_passage_reader(config.retrieval.reader, config.serve.embed_threads)
        # One thread: the embedder is not thread-safe, and torch spreads one query over its own threads.
        self._work = ThreadPoolExecutor(1, thread_name_prefix="search")
        store, name = Store(home.store_uri), config.index.name
        alias = ("indexes", name, "live")
        self._live: Live[Searcher] = Live(
            "retriever", store, "indexes", name, lambda: store.alias("indexes", name, "live"), self._load,
            home.root / "cache", earlier=lambda: [move["version"] for move in store.alias_history(*alias)],
        )  # fmt: skip
        self._forgotten = Forgotten("retriever", store, self._serving)
        self._metrics = IndexMetrics(recorder) if recorder else None
        self._made: dict[str, tuple[Any, Any, int, list[Any]]] = {}
        self._forgotten.refresh()
        self._live.refresh()

    def _load(self, folder: Path, manifest: Manifest) -> Searcher:
        from data_jobs.retrieval.risk import read_evidence
        from data_jobs.retrieval.search import Searcher
        from data_jobs.retrieval.snapshot import Snapshot

        before = self._serving()
        snapshot = Snapshot.load(folder, manifest, self._embedder.asks, before.snapshot if before else None)
        evidence = read_evidence(folder)
        if any(chunk.kind not in CODE_KINDS for chunk in snapshot.chunks):
            self._reader.warm()  # of documented code alone it is never asked
        promised = None
        if evidence is not None and evidence.judged:
            promised = evidence.promise(self._config.answer.max_risk, self._reader.fingerprint)
        threshold = promised.threshold if promised else None
        searcher = Searcher(
            snapshot, self._embedder, self._config.retrieval, self._reranker, self._reader, threshold
        )  # fmt: skip
        self._forgotten.hide_in(searcher)
        searcher.warm()
        return searcher

    def _serving(self) -> Searcher | None:
        return self._live.current.thing if self._live.current else None

    async def search(self, question: str, k: int | None = None) -> Retrieval:
        """Passages for a question from the live index.

        Raises:
            UnavailableError: no index is live yet.
        """
        loaded = self._current()
        found = await asyncio.get_running_loop().run_in_executor(self._work, loaded.thing.search, question, k)
        if self._metrics is not None:
            self._metrics.searched(found, loaded.manifest)
        return found

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """One unit vector for each text, in their order."""
        vectors = await asyncio.get_running_loop().run_in_executor(self._work, self._embedder.encode, texts)
        return vectors.tolist()

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        """The version of what embeds questions, and one unit vector for each text, as a search would make it."""
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._work, self._embedder.encode, texts, "query")
        return self._embedder.asks, vectors.tolist()

    async def info(self) -> dict[str, Any]:
        """What the live index is.

        Raises:
            UnavailableError: no index is live yet.
        """
        manifest = self._current().manifest
        return {
            "index_version": manifest.version,
            "index_as_of": manifest.created_at,
            "chunks": manifest.counts.get("chunks"),
            "documents": manifest.counts.get("documents"),
            "embedder": self._embedder.identity.get("name"),
            "reader": self._reader.reads,
            "threshold": self._current().thing.threshold,
        }

    async def examples(self, count: int) -> tuple[str, list[Example]]:
        """The version of the live index, and at most ``count`` questions that it can be asked; made once a version.

        Raises:
            UnavailableError: no index is live yet.
        """
        from data_jobs.retrieval.examples import example_questions

        return await self._of_live("examples", example_questions, count)

    async def topics(self, count: int) -> list[str]:
        """At most ``count`` things that the documents of the live index are about; made once a version.

        Raises:
            UnavailableError: no index is live yet.
        """
        from data_jobs.retrieval.examples import topics

        return (await self._of_live("topics", topics, count))[1]

    async def _of_live(self, name: str, make: Callable[..., list[Any]], count: int) -> tuple[str, list[Any]]:
        """The live version, and what is made of it; anew where the index, what is hidden of it or ``count`` changed."""
        searcher = self._current().thing
        snapshot, hidden, kept = searcher.snapshot, searcher.hidden, self._made.get(name)
        if kept is None or kept[0] is not snapshot or kept[1] is not hidden or kept[2] != count:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(None, make, snapshot, hidden.tolist(), count)
            self._made[name] = kept = (snapshot, hidden, count, made)
        return snapshot.version, kept[3]

    async def check_health(self) -> None:
        """Serve calls this every few seconds: it also (re)starts the follower, which needs the running loop."""
        self.follow()

    def follow(self) -> None:
        """Start following the `live` alias and the list of forgotten documents, once."""
        self._live.follow(self._config.retrieval.refresh_s)
        self._forgotten.follow()
        if self._metrics is not None and self._live.current is not None:
            self._metrics.serving(self._live.current.manifest)

    def _current(self) -> Loaded[Searcher]:
        if self._live.current is None:
            raise UnavailableError("no index is live yet: run `plinth quickstart` or `plinth index build`")
        return self._live.current
