"""One loaded MiniLM and one small published index for all tests of retrieval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cluster.core.records import Document, Manifest
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.storage import Store
from data_jobs.indexing.index_blocks import cut, embed, with_enclosing
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.snapshot import Snapshot, write_snapshot

INDEX = IndexSection()
Publish = Callable[[Sequence[Document]], tuple[Store, Manifest]]


@pytest.fixture(scope="session")
def publish(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Publish:
    """Index documents into a store of their own."""

    def made(documents: Sequence[Document]) -> tuple[Store, Manifest]:
        store = Store(str(tmp_path_factory.mktemp("store")))
        staging = store.staging("run")
        block = embed(cut(with_enclosing(documents), find_model(INDEX), INDEX), embedder)
        parts = (block.chunks, block.aliases, block.questions, block.units, block.vectors)
        write_snapshot(Path(staging), *parts, embedder.identity, embedder.fingerprint)
        return store, store.publish("indexes", "main", staging, run_key="run")

    return made


@pytest.fixture(scope="session")
def searcher(publish: Publish, embedder: Embedder) -> Callable[[Sequence[Document]], Searcher]:
    def made(documents: Sequence[Document]) -> Searcher:
        store, manifest = publish(documents)
        snapshot = Snapshot.load(Path(store.artefact(manifest)), manifest, embedder.fingerprint)
        return Searcher(snapshot, embedder, RetrievalSection())

    return made
