"""Watching a folder: what the index holds is what the folder holds, also after a kill at any moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.core.access import FOLDER_FILE
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, UsageError
from cluster.core.records import Document
from cluster.core.sections.data import RetrievalSection
from cluster.core.storage import Store
from data_jobs.governance.tombstones import add_tombstone
from data_jobs.indexing import update_index, watch
from data_jobs.indexing.update_index import indexed_documents, update
from data_jobs.indexing.watch import Change, FolderWatch
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.snapshot import Snapshot
from tests.data_jobs.hash_embedder import HashEmbedder

CONFIG = PlinthConfig()


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, no clean-up of the watcher runs."""


@pytest.fixture
def store(home: Path) -> Store:
    return Store(str(home / "store"))


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder(find_model(CONFIG.index).identity)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "notes"
    made.mkdir()
    for name in ("apple", "bridge", "copper"):
        write(made, f"{name}.md", f"A note that speaks of the {name} and of nothing else at all.")
    return made


@pytest.fixture
def watching(store: Store, folder: Path, embedder: HashEmbedder) -> Callable[[], FolderWatch]:
    return lambda: FolderWatch(CONFIG, store, folder, "main", embedder)


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def held(store: Store) -> set[str]:
    return set(indexed_documents(store, store.manifest("indexes", "main", "live")))


def texts(store: Store, embedder: HashEmbedder) -> dict[str, str]:
    index = store.manifest("indexes", "main", "live")
    snapshot = Snapshot.load(Path(store.artefact(index)), index, embedder.fingerprint)
    Searcher(snapshot, embedder, RetrievalSection())
    return {chunk.document: chunk.text for chunk in snapshot.chunks}


def brief(changes: list[Change]) -> set[tuple[str, str]]:
    return {(change.action, change.path) for change in changes}


def test_added_changed_and_deleted_files(
    store: Store, folder: Path, embedder: HashEmbedder, watching: Callable[[], FolderWatch]
) -> None:
    watcher = watching()
    assert brief(list(watcher.poll())) == {("added", f"{n}.md") for n in ("apple", "bridge", "copper")}
    assert held(store) == {"apple.md", "bridge.md", "copper.md"}
    assert list(watcher.poll()) == []
    write(folder, "sub/dragon.txt", "A dragon sleeps in its cave under the hill.")
    write(folder, "apple.md", "The apple is now a pear, which is quite another fruit.")
    (folder / "bridge.md").unlink()
    embedder.texts.clear()
    assert brief(list(watcher.poll())) == {
        ("added", "sub/dragon.txt"), ("changed", "apple.md"), ("deleted", "bridge.md")
    }  # fmt: skip
    assert held(store) == {"apple.md", "copper.md", "sub/dragon.txt"}
    assert "pear" in texts(store, embedder)["apple.md"]
    assert not any("copper" in text for text in embedder.texts)
    os.utime(folder / "copper.md")
    assert list(watcher.poll()) == []


def test_a_label_of_the_folder_or_of_one_above_reaches_the_index(
    store: Store, folder: Path, embedder: HashEmbedder, watching: Callable[[], FolderWatch]
) -> None:
    watcher = watching()
    list(watcher.poll())

    def labels() -> set[str]:
        index = store.manifest("indexes", "main", "live")
        snapshot = Snapshot.load(Path(store.artefact(index)), index, embedder.fingerprint)
        return {chunk.access for chunk in snapshot.chunks}

    assert labels() == {""}
    for place, text, label in (
        (folder, "tenant: acme\n", "acme"),
        (folder.parent, "tenant: acme\ngroups: [hr]\n", "acme:hr"),
    ):
        (place / FOLDER_FILE).write_text(text)
        assert brief(list(watcher.poll())) == {("changed", f"{n}.md") for n in ("apple", "bridge", "copper")}
        assert labels() == {label}
        assert store.manifest("indexes", "main", "live").counts["access"] == {label: 3}
    (folder / FOLDER_FILE).write_text("tenant: [acme]\n")
    with pytest.raises(UsageError, match="nothing was read"):
        list(watcher.poll())
    assert labels() == {"acme:hr"}


def test_a_restart_continues_and_does_nothing_twice(
    store: Store, folder: Path, embedder: HashEmbedder, watching: Callable[[], FolderWatch]
) -> None:
    list(watching().poll())
    version = store.alias("indexes", "main", "live")
    embedder.texts.clear()
    assert list(watching().poll()) == []
    assert (store.alias("indexes", "main", "live"), embedder.texts) == (version, [])
    (folder / "copper.md").unlink()
    assert brief(list(watching().poll())) == {("deleted", "copper.md")}


@pytest.mark.parametrize("step", ["_save", "_go_live", "_settled", "_prepared"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_killed_anywhere_it_ends_where_it_would_have(
    store: Store,
    folder: Path,
    embedder: HashEmbedder,
    watching: Callable[[], FolderWatch],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    count: int,
) -> None:
    list(watching().poll())
    write(folder, "apple.md", "The apple of the second edition is green and sour.")
    write(folder, "extra.md", "An extra note about a harbour with many boats.")
    (folder / "bridge.md").unlink()
    calls, real = [0], getattr(FolderWatch, step)

    def dies(self: FolderWatch, *args: object) -> object:
        calls[0] += 1
        if calls[0] == count:
            raise Killed
        return real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(FolderWatch, step, dies)
        with contextlib.suppress(Killed):
            list(watching().poll())
    # While nobody watched, a file that was being added went away, and one came back as it had been.
    (folder / "extra.md").unlink()
    write(folder, "apple.md", "A note that speaks of the apple and of nothing else at all.")
    list(watching().poll())
    assert held(store) == {"apple.md", "copper.md"}
    assert "second edition" not in texts(store, embedder)["apple.md"]


def test_what_cannot_be_read_leaves_the_index_and_is_named(
    store: Store, folder: Path, watching: Callable[[], FolderWatch]
) -> None:
    watcher = watching()
    list(watcher.poll())
    (folder / "apple.md").write_bytes(b"\x00\x01\x02 not text any more")
    (folder / "thing.xyz").write_bytes(b"what is this")
    changes = {change.path: change for change in watcher.poll()}
    assert changes["apple.md"].action == "refused"
    assert changes["apple.md"].reason
    assert held(store) == {"bridge.md", "copper.md"}
    assert list(watcher.poll()) == []


def test_documents_from_elsewhere_stay(
    store: Store, embedder: HashEmbedder, watching: Callable[[], FolderWatch]
) -> None:
    other = Document("shutil.copy", "copy", "Copy a file to another place.", "shutil.py:1")
    index = update(store, CONFIG.index, None, [other], (), embedder, inputs={"dataset": ""})
    store.move_alias("indexes", "main", "live", index.version, "test")
    list(watching().poll())
    assert held(store) == {"shutil.copy", "apple.md", "bridge.md", "copper.md"}


def test_an_index_put_in_its_place_is_filled_again(
    store: Store, embedder: HashEmbedder, watching: Callable[[], FolderWatch]
) -> None:
    watcher = watching()
    list(watcher.poll())
    other = Document("shutil.copy", "copy", "Copy a file to another place.", "shutil.py:1")
    index = update(store, CONFIG.index, None, [other], (), embedder, inputs={})
    store.move_alias("indexes", "main", "live", index.version, "another build")
    list(watcher.poll())
    assert held(store) == {"shutil.copy", "apple.md", "bridge.md", "copper.md"}


def test_forgotten_documents_go_and_stay_out(store: Store, folder: Path, watching: Callable[[], FolderWatch]) -> None:
    watcher = watching()
    list(watcher.poll())
    add_tombstone(store, document="apple.md")
    list(watcher.poll())
    assert held(store) == {"bridge.md", "copper.md"}
    write(folder, "apple.md", "The apple comes back with other words in it.")
    list(watcher.poll())
    assert held(store) == {"bridge.md", "copper.md"}


def test_personal_data_is_taken_out(
    store: Store, folder: Path, embedder: HashEmbedder, watching: Callable[[], FolderWatch]
) -> None:
    write(folder, "mail.md", "Write to jane.roe@harbour-boats.de about the harbour and its boats.")
    list(watching().poll())
    assert "jane.roe" not in texts(store, embedder)["mail.md"]


def test_a_folder_that_is_gone_is_not_a_folder_without_files(
    store: Store, folder: Path, watching: Callable[[], FolderWatch]
) -> None:
    watcher = watching()
    list(watcher.poll())
    folder.rename(folder.with_name("away"))
    assert list(watcher.poll()) == []
    assert len(held(store)) == 3
    with pytest.raises(BadInputError, match="no folder"):
        watching()


def test_it_compacts_and_finds_the_same(
    store: Store, folder: Path, watching: Callable[[], FolderWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_index, "MIN_COMPACT_CHUNKS", 0)
    monkeypatch.setattr(watch, "FIRST_BATCH", 2)
    watcher = watching()
    list(watcher.poll())
    for turn in range(4):
        write(folder, f"more{turn}.md", f"Note number {turn} about a kettle and a ladder.")
        list(watcher.poll())
    index = store.manifest("indexes", "main", "live")
    assert index.counts["segments"] <= 2
    assert held(store) == {"apple.md", "bridge.md", "copper.md", *(f"more{turn}.md" for turn in range(4))}
    assert list(watcher.poll()) == []
