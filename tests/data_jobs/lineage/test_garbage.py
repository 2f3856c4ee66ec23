"""What gc takes and what it leaves: nothing referred to goes, what goes is gone at once, no job is disturbed."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.lineage import receipts
from data_jobs.lineage.garbage import PIN, TRASH, Garbage, collect, find_garbage, forget_copies
from data_jobs.lineage.graph import Inventory
from data_jobs.lineage.receipts import ForgetRequest
from tests.data_jobs.artefacts import dataset, document, index, made_of, reference

DAY = 24 * 3600


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def versions(store: Store, count: int, name: str = "notes") -> list[Manifest]:
    """Datasets of one name, oldest first; the last one is `latest`."""
    return [dataset(store, [document(f"{n}.md") for n in range(number + 1)], name) for number in range(count)]


def gone(found: Garbage) -> set[str]:
    return {item.path for item in found.items}


def test_the_newest_and_what_an_alias_points_to_stay(store: Store) -> None:
    one, two, three, four = versions(store, 4)
    store.move_alias("datasets", "notes", f"{PIN}{one.version}", one.version, why="test")
    found = find_garbage(store, keep=2)
    assert gone(found) == {f"datasets/notes/{two.version}"}
    assert found.kept[f"datasets/{reference(one)}"] == "pinned"
    assert found.kept[f"datasets/{reference(four)}"] == "alias latest"
    assert found.kept[f"datasets/{reference(three)}"] == "one of the newest 2"
    assert all(item.bytes > 0 for item in found.items)


def test_what_something_kept_was_made_of_stays(store: Store) -> None:
    old, new = versions(store, 2)
    main = index(store, old, ["0.md"])
    model = made_of(store, "models", "small", dataset=old, index=main)
    store.move_alias("models", "small", "champion", model.version, why="test")
    store.remove_alias("indexes", "main", "live")
    assert gone(find_garbage(store, keep=0)) == set()
    store.remove_alias("models", "small", "champion")
    assert gone(find_garbage(store, keep=0)) == {
        f"datasets/notes/{old.version}", f"indexes/main/{main.version}", f"models/small/{model.version}",
    }  # fmt: skip
    assert new.version in "".join(find_garbage(store, keep=0).kept)


def test_an_index_to_roll_back_to_stays_but_not_all_before_it(store: Store) -> None:
    made = [index(store, version, ["0.md"] * (n + 1)) for n, version in enumerate(versions(store, 4))]
    found = find_garbage(store, keep=0)
    assert {path for path in gone(found) if path.startswith("indexes/")} == {
        f"indexes/main/{m.version}" for m in made[:2]
    }
    assert "roll back" in found.kept[f"indexes/{reference(made[2])}"]


def test_collecting_removes_exactly_what_was_listed(store: Store) -> None:
    made = versions(store, 5)
    listed = find_garbage(store, keep=2)
    assert gone(collect(store, keep=2)) == gone(listed)
    assert [m.version for m in store.versions("datasets", "notes")] == [m.version for m in made[-2:]]
    for manifest in store.versions("datasets", "notes"):
        store.verify(manifest)
    assert gone(find_garbage(store, keep=2)) == set()
    assert not list(Path(store.path(TRASH)).iterdir())
    assert store.find_run(made[0].run_key) is None
    assert store.find_run(made[-1].run_key) is not None


def test_a_version_with_a_forgotten_document_is_not_kept_for_being_new(store: Store, tmp_path: Path) -> None:
    one, two = versions(store, 2)
    receipts.forget(store, Home(tmp_path / "home"), ForgetRequest("1.md"))  # only the second holds it
    later = dataset(store, [document("0.md"), document("5.md")])
    assert gone(find_garbage(store, keep=9)) == {f"datasets/notes/{two.version}"}
    assert {one.version, later.version} <= {m.version for m in Inventory.read(store).manifests.values()}


def test_unfinished_work_goes_only_when_it_is_stale(store: Store) -> None:
    store.write(f"{store.staging('abc')}/dataset/part.parquet", b"half")
    bare = Path(store.path("datasets", "notes", "0123456789ab"))
    bare.mkdir(parents=True)
    (bare / "documents-00000.parquet").write_bytes(b"half")
    left = Path(store.path("datasets", "x.json.0a0b.tmp"))
    left.write_bytes(b"half")
    assert gone(find_garbage(store, keep=2)) == set()
    later = os.stat(left).st_mtime + 2 * DAY
    found = find_garbage(store, keep=2, now=later)
    assert gone(found) == {"staging/abc", "datasets/notes/0123456789ab", "datasets/x.json.0a0b.tmp"}
    for path in Path(store.root).rglob("*"):
        os.utime(path, (1, 1))
    collect(store, keep=2)
    assert not bare.exists()
    assert not left.exists()
    assert not Path(store.path("staging", "abc")).exists()


def test_caches_of_older_settings_go(store: Store) -> None:
    for number, settings in enumerate(("old", "new")):
        path = store.path("cache", "clean", "notes", settings, "pack.parquet")
        store.write(path, b"x")
        for part in (path, str(Path(path).parent)):
            os.utime(part, (1000 + number, 1000 + number))
    assert gone(find_garbage(store, keep=2)) == {"cache/clean/notes/old"}


def test_an_interrupted_collection_is_completed(store: Store) -> None:
    versions(store, 1)
    Path(store.path(TRASH, "deadbeef")).mkdir(parents=True)
    assert gone(find_garbage(store, keep=2)) == {".trash/deadbeef"}
    collect(store, keep=2)
    assert not Path(store.path(TRASH, "deadbeef")).exists()


def test_nothing_is_collected_while_a_job_runs(store: Store) -> None:
    versions(store, 4)
    with store.job(), store.job():
        with pytest.raises(EnvironmentFaultError, match="a job is writing"):
            collect(store, keep=0)
        assert len(store.versions("datasets", "notes")) == 4
    collect(store, keep=0)
    assert len(store.versions("datasets", "notes")) == 1


def test_receipts_and_tombstones_stay(store: Store, tmp_path: Path) -> None:
    versions(store, 1)
    receipts.forget(store, Home(tmp_path / "home"), ForgetRequest("0.md"))
    before = sorted(p for p in Path(store.path("forgotten")).rglob("*"))
    collect(store, keep=0)
    assert sorted(p for p in Path(store.path("forgotten")).rglob("*")) == before


def test_copies_of_versions_that_are_gone_go_too(tmp_path: Path) -> None:
    store, cache = Store(f"memory://{uuid.uuid4().hex}"), tmp_path / "cache"
    old, new = versions(store, 2)
    folders = [store.fetch(made, cache) for made in (old, new)]
    block = cache / "token-blocks" / "ab" / "cdef"
    block.parent.mkdir(parents=True)
    block.touch()
    collect(store, keep=0)
    assert forget_copies(store, cache) == 1
    assert [folder.exists() for folder in (*folders, block)] == [False, True, True]
