"""A store below PLINTH_HOME, and an embedder that costs nothing in place of the one that a retriever loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from data_jobs.retrieval.model_files import find_model
from tests.data_jobs.hash_embedder import HashEmbedder


@pytest.fixture
def store(home: Path) -> Store:
    return Store(str(home / "store"))


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> HashEmbedder:
    made = HashEmbedder(find_model(IndexSection()).identity)
    monkeypatch.setattr("data_jobs.retrieval.embedder.load_embedder", lambda *_, **__: made)
    return made
