"""A store with keys: nothing readable lies on the disk, what was changed does not open, keys do not travel."""

from __future__ import annotations

import io
import json
import os
import pickle
import uuid
from pathlib import Path

import pytest

from cluster.core.errors import EnvironmentFaultError, IntegrityError
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.core.storage.sealing import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES
from cluster.core.storage.store_keys import StoreKeys
from cluster.core.storage.whole_files import MAGIC

SECRET = b"the salary of the director is on page nine. "
LONG = os.urandom(3 * CHUNK_BYTES + 1000)


@pytest.fixture
def keys(home: Path) -> StoreKeys:
    Home(home).folder("keys")
    return StoreKeys.make(Home(home).store_keys_path)


@pytest.fixture
def store(keys: StoreKeys, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def put(store: Store, name: str, content: bytes) -> Path:
    store.write(store.path(name), content)
    return Path(store.path(name))


def test_without_keys_nothing_is_encrypted(home: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert put(store, "a", SECRET).read_bytes() == SECRET
    assert (store.local, store.sealed) == (True, False)


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, len(LONG)])
def test_every_way_of_reading_gives_what_was_written(
    keys: StoreKeys, tmp_path: Path, where: str, size: int
) -> None:  # fmt: skip
    store = Store(str(tmp_path) if where == "disk" else f"memory://{uuid.uuid4().hex}")
    content, path = LONG[:size], store.path("folder", "file")
    store.write(path, content)
    assert store.read(path) == content
    assert (store.fs.size(path), store.digest(path)[1]) == (size, size)
    for start, end in [(0, 1), (0, size), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (-5, None), (size, None), (9, 3),
                       (2 * CHUNK_BYTES, None), (None, 7), (size + 9, size + 99)]:  # fmt: skip
        assert store.fs.cat_file(path, start=start, end=end) == content[start:end], (start, end)
        with store.fs.open(path, "rb") as handle, io.BytesIO(content) as plain:
            for file in (handle, plain):
                file.seek(start or 0) if (start or 0) >= 0 else file.seek(max(-size, start or 0), io.SEEK_END)
            assert handle.read(CHUNK_BYTES) == plain.read(CHUNK_BYTES)


def test_nothing_on_the_disk_can_be_read(store: Store, tmp_path: Path) -> None:
    staging = store.staging("r1")
    store.write(f"{staging}/documents.txt", SECRET * 5000)
    made = store.publish("datasets", "docs", staging, run_key="r1", counts={"note": SECRET.decode()})
    store.move_alias("datasets", "docs", "latest", made.version, SECRET.decode())
    assert store.alias_history("datasets", "docs", "latest")[0]["why"] == SECRET.decode()
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.name[-5:] != ".lock"]
    assert len(files) == 4
    for path in files:
        assert path.read_bytes().startswith(MAGIC)
        assert b"salary" not in path.read_bytes()


def test_a_copy_to_work_with_is_plain_and_its_owners_only(store: Store, home: Path) -> None:
    store.write(f"{store.staging('r1')}/weights.bin", LONG)
    made = store.publish("models", "small", store.staging("r1"), run_key="r1")
    Home(home).folder("cache").chmod(0o755)  # as an older installation left it
    folder = store.fetch(made, home / "cache")
    assert (folder / "weights.bin").read_bytes() == LONG
    assert (home / "cache").stat().st_mode & 0o777 == 0o700
    assert not store.local, "nobody may take the artefact's own folder for plain files"


CHUNK = CHUNK_BYTES + TAG_BYTES
CHANGES = {
    "a bit": lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:],
    "the key's id kept, the salt changed": lambda raw: raw[:20] + bytes([raw[20] ^ 1]) + raw[21:],
    "cut at a chunk": lambda raw: raw[: HEADER_BYTES + 2 * CHUNK],
    "cut in a chunk": lambda raw: raw[:-1],
    "cut to an empty chunk": lambda raw: raw[: HEADER_BYTES + TAG_BYTES],
    "cut after the header": lambda raw: raw[:HEADER_BYTES],
    "cut in the header": lambda raw: raw[: HEADER_BYTES - 1],
    "cut in the magic": lambda raw: raw[:3],
    "lengthened": lambda raw: raw + raw[-CHUNK:],
    "chunks swapped": lambda raw: (
        raw[:HEADER_BYTES] + raw[HEADER_BYTES + CHUNK : HEADER_BYTES + 2 * CHUNK]
        + raw[HEADER_BYTES : HEADER_BYTES + CHUNK] + raw[HEADER_BYTES + 2 * CHUNK :]
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_refused_by_name(store: Store, change: str) -> None:
    path = put(store, "weights.bin", LONG)
    path.write_bytes(CHANGES[change](path.read_bytes()))
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        store.read(str(path))
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        store.digest(str(path))
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        store.fs.cat_file(str(path), start=0, end=len(LONG))


def test_the_end_of_a_cut_file_is_not_taken_for_the_end(store: Store) -> None:
    path = put(store, "metrics.jsonl", LONG)
    path.write_bytes(path.read_bytes()[: HEADER_BYTES + 2 * CHUNK])
    assert store.fs.cat_file(str(path), start=0, end=100) == LONG[:100], "what is there is what was written"
    for start in (2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 50):  # as who follows a file reads on
        with pytest.raises(IntegrityError):
            store.fs.cat_file(str(path), start=start)


def test_files_cannot_take_each_others_place(store: Store) -> None:
    one, other = put(store, "a/live.json", b'{"version": "old"}'), put(store, "b/live.json", b'{"version": "new"}')
    other.write_bytes(one.read_bytes())
    with pytest.raises(IntegrityError, match=r"b/live\.json"):
        store.read(str(other))
    store.fs.mv(str(one), str(other))
    assert store.read(str(other)) == b'{"version": "old"}', "moved by the store, it is bound to its new place"


def test_plain_files_of_before_are_read_and_then_encrypted(home: Path, tmp_path: Path) -> None:
    before = Store(str(tmp_path / "store"))
    before.write(f"{before.staging('r1')}/a.bin", LONG)
    made = before.publish("datasets", "docs", before.staging("r1"), run_key="r1")
    Home(home).folder("keys")
    StoreKeys.make(Home(home).store_keys_path)
    store = Store(str(tmp_path / "store"))
    file = f"{store.artefact(made)}/a.bin"
    store.verify(store.manifest("datasets", "docs", made.version))
    assert store.fs.cat_file(file, start=5, end=9) == LONG[5:9]
    assert store.fs.size(file) == len(LONG)
    assert store.fs.reseal() == 3
    assert Path(file).read_bytes().startswith(MAGIC)
    store.verify(store.manifest("datasets", "docs", made.version))
    assert store.fs.reseal() == 0


def test_after_a_rotation_both_keys_open_and_the_new_one_encrypts(store: Store, keys: StoreKeys) -> None:
    path = put(store, "a", SECRET)
    renewed = StoreKeys.read(keys.path).renewed()
    store = Store(store.uri)
    assert store.read(str(path)) == SECRET
    assert store.fs.reseal() == 1
    assert bytes.fromhex(renewed.current) in path.read_bytes()[:HEADER_BYTES]
    row = json.loads(keys.path.read_text())
    del row["masters"][keys.current]
    keys.path.write_text(json.dumps(row))
    assert Store(store.uri).read(str(path)) == SECRET, "the old key is not needed any more"


def test_a_key_that_is_missing_is_named(store: Store, keys: StoreKeys) -> None:
    path = put(store, "a", SECRET)
    keys.path.unlink()
    with pytest.raises(EnvironmentFaultError, match=r"a is encrypted.*keys/store\.json"):
        Store(store.uri).read(str(path))
    StoreKeys.make(keys.path)
    with pytest.raises(EnvironmentFaultError, match=keys.current):
        Store(store.uri).read(str(path))
    keys.path.write_text("{}")
    with pytest.raises(EnvironmentFaultError, match="holds no keys"):
        Store(store.uri)


def test_keys_do_not_travel_and_are_their_owners_only(store: Store, keys: StoreKeys) -> None:
    secret = keys.masters[keys.current]
    assert keys.path.stat().st_mode & 0o777 == 0o600
    sent = pickle.dumps(store)
    assert secret not in sent
    assert secret.hex().encode() not in sent
    assert repr(secret) not in repr(vars(store.fs)) + repr(keys)
    path = put(store, "a", SECRET)
    assert pickle.loads(sent).read(str(path)) == SECRET


def test_a_write_that_fails_leaves_what_was_there(store: Store) -> None:
    path = put(store, "a", SECRET)

    def broken() -> None:
        with store.fs.open(str(path), "wb") as handle:
            handle.write(LONG)
            raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        broken()
    assert store.read(str(path)) == SECRET
    assert [found.name for found in path.parent.iterdir()] == ["a"]
