"""The version of an index that answers with what it learnt: derived, taken back, carried on, named as such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.core.records import Document, Manifest
from cluster.core.sections.data import IndexSection
from cluster.core.storage import INDEXES, LIVE, Collections, Store
from data_jobs.indexing.adapted import ADAPTATION, STOCK, adapted_index, as_it_answers, stock_of, told
from data_jobs.indexing.update_index import compact, update
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.question_map import FILE, QuestionMap
from data_jobs.retrieval.snapshot import Snapshot
from tests.data_jobs.hash_embedder import HashEmbedder

SECTION = IndexSection()
VERDICT = Manifest("adaptations", "main", "abc123", "", ())


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder(find_model(SECTION).identity)


@pytest.fixture
def store(home: Path) -> Store:
    return Store(str(home / "store"))


def learnt(embedder: HashEmbedder) -> bytes:
    return QuestionMap(np.ones((1, embedder.dim), np.float32), np.ones((embedder.dim, 1), np.float32)).to_bytes()


def note(number: int, text: str = "") -> Document:
    return Document(f"n{number}.md", f"Note {number}", text or f"Note {number} tells of kettle {number}.", "n")


def built(store: Store, embedder: HashEmbedder) -> Manifest:
    return update(store, SECTION, None, [note(n) for n in range(8)], (), embedder, inputs={"dataset": "d@1"})


def map_of(store: Store, index: Manifest) -> QuestionMap | None:
    return Snapshot.load(Path(store.artefact(index)), index, str(index.config["fingerprint"])).question_map


def test_it_is_the_same_index_with_a_map_and_says_so(store: Store, embedder: HashEmbedder) -> None:
    stock = built(store, embedder)
    made = adapted_index(store, stock, learnt(embedder), VERDICT)
    assert made.version != stock.version
    assert {f.path for f in made.files} == {f.path for f in stock.files} | {FILE}
    assert made.counts == {**stock.counts, "adapted": True}
    assert made.inputs["dataset"] == "d@1"
    assert (stock_of(made), stock_of(stock)) == (f"{stock.name}@{stock.version}",) * 2
    assert told(made) == f"yes, by main@abc123, from {stock.name}@{stock.version}"
    assert told(stock) == ""
    assert map_of(store, stock) is None
    assert map_of(store, made) is not None
    segment = next(f.path for f in stock.files if "/" in f.path)
    files = [Path(store.artefact(index)) / segment for index in (stock, made)]
    assert files[0].stat().st_ino == files[1].stat().st_ino, "nothing is copied"
    assert adapted_index(store, stock, learnt(embedder), VERDICT).version == made.version


def test_a_rollback_takes_it_back(store: Store, embedder: HashEmbedder) -> None:
    stock = built(store, embedder)
    collections = Collections(store, stock.name)
    collections.go_live(stock.name, stock.version, why="build")
    made = adapted_index(store, stock, learnt(embedder), VERDICT)
    assert as_it_answers(store, stock).version == stock.version
    collections.go_live(made.name, made.version, why="adapt")
    assert as_it_answers(store, stock).version == made.version, "the same documents again keep what was learnt"
    assert store.roll_back_alias(INDEXES, stock.name, LIVE) == (made.version, stock.version)
    assert collections.version(stock.name) == stock.version


def test_later_changes_keep_what_it_learnt_but_are_no_longer_that_stock(store: Store, embedder: HashEmbedder) -> None:
    made = adapted_index(store, built(store, embedder), learnt(embedder), VERDICT)
    changed = update(store, SECTION, made, [note(99)], ["n0.md"], embedder, inputs={})
    for index in (changed, compact(store, changed)):
        assert map_of(store, index) is not None
        assert index.counts["adapted"]
        assert index.inputs[ADAPTATION] == "main@abc123"
        assert STOCK not in index.inputs
        assert stock_of(index) == f"{index.name}@{index.version}"
