"""Where the index of a dataset goes: never into a collection that answers from other documents unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import UsageError
from cluster.core.records import Manifest
from cluster.core.storage import Collections, Store
from data_jobs.indexing.collection import collection_for, collection_of_folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def publish(store: Store, kind: str, name: str, content: str, **inputs: str) -> Manifest:
    staging = store.staging(content)
    store.write(f"{staging}/file", content.encode())
    return store.publish(kind, name, staging, run_key=content, inputs=inputs)


def dataset(store: Store, name: str, source: str, content: str = "1") -> Manifest:
    return publish(store, "datasets", name, f"{name}{source}{content}", source=source)


def indexed(store: Store, of: Manifest, named: str = "") -> str:
    name = collection_for(store, "main", of, named)
    index = publish(store, "indexes", name, f"{name}{of.version}", dataset=f"{of.name}@{of.version}")
    Collections(store, "main").go_live(name, index.version, why="test")
    return name


def test_a_second_dataset_takes_the_corpus_from_nobody(store: Store) -> None:
    assert indexed(store, dataset(store, "docs", "/docs")) == "main"
    assert indexed(store, dataset(store, "notes", "/notes")) == "notes"
    assert Collections(store, "main").default == "main"


def test_a_newer_version_of_a_dataset_goes_where_the_older_is(store: Store) -> None:
    indexed(store, dataset(store, "docs", "/docs"))
    indexed(store, dataset(store, "notes", "/notes"), named="mine")
    assert collection_for(store, "main", dataset(store, "docs", "/docs", "2")) == "main"
    assert collection_for(store, "main", dataset(store, "notes", "/notes", "2")) == "mine"


def test_of_two_that_have_it_the_default_is_meant(store: Store) -> None:
    docs = dataset(store, "docs", "/docs")
    for name in ("main", "a", "b"):
        indexed(store, docs, named=name)
    assert collection_for(store, "main", docs) == "main"
    Collections(store, "main").use("b", why="test")
    assert collection_for(store, "main", docs) == "b"


def test_a_folder_of_the_same_name_elsewhere_is_another_corpus(store: Store) -> None:
    indexed(store, dataset(store, "notes", "/ann/notes"))
    assert indexed(store, dataset(store, "notes", "/bob/notes")) == "notes"
    third = dataset(store, "notes", "/eve/notes")
    with pytest.raises(UsageError, match="--collection NAME"):
        collection_for(store, "main", third)
    assert collection_for(store, "main", third, "eves") == "eves"


def test_what_is_named_is_meant_and_must_be_a_name(store: Store) -> None:
    docs = dataset(store, "docs", "/docs")
    indexed(store, docs)
    assert collection_for(store, "main", docs, "other") == "other"
    assert collection_for(store, "elsewhere", docs) == "elsewhere"
    with pytest.raises(UsageError, match="usable name"):
        collection_for(store, "main", docs, "../main")


def test_a_watched_folder_s_own_dataset_goes_into_its_collection(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    index = publish(store, "indexes", "main", "watched", folder=str(folder))
    Collections(store, "main").go_live("main", index.version, why="index watch")
    assert collection_for(store, "main", dataset(store, "notes", str(folder))) == "main"
    assert collection_for(store, "main", dataset(store, "docs", "/docs")) == "docs"


def test_a_folder_is_kept_fresh_in_the_collection_that_answers_from_it(store: Store, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    indexed(store, dataset(store, "docs", "/docs"))
    assert collection_of_folder(store, "main", notes) == "main"
    made = dataset(store, "notes", str(notes))
    index = publish(store, "indexes", "notes", "built", dataset=f"notes@{made.version}")
    Collections(store, "main").go_live("notes", index.version, why="test")
    assert collection_of_folder(store, "main", notes) == "notes"
    assert collection_of_folder(store, "main", tmp_path / "other") == "main"
    store.fs.rm(store.artefact(made), recursive=True)
    assert collection_of_folder(store, "main", notes) == "main", "nobody knows where it came from"


def test_a_collection_whose_dataset_is_gone_is_known_by_its_name(store: Store) -> None:
    docs = dataset(store, "docs", "/docs")
    indexed(store, docs)
    store.fs.rm(store.artefact(docs), recursive=True)
    assert collection_for(store, "main", dataset(store, "docs", "/moved")) == "main"
