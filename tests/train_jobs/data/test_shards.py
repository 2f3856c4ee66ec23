"""Reading token shards: the same numbers from a disk and an object store, damage refused, memory that does not grow."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import IntegrityError
from cluster.core.storage import Store
from data_jobs.corpus import token_index
from data_jobs.corpus.token_index import ShardSide, TokenFile, TokenIndex
from data_jobs.corpus.tokens import npy_bytes
from train_jobs.data import shards
from train_jobs.data.packing import sampled
from train_jobs.data.shards import FetchedBlocks, MappedFiles, ShardStream, reader_of

LENGTHS = ([5, 1, 30], [200], [3, 3, 3])  # of the documents of each shard


def write_index(store: Store, folder: str, lengths=LENGTHS) -> TokenIndex:
    """Shards whose tokens count upwards from 0."""
    first, sides = 0, []
    for number, documents in enumerate(lengths):
        count = sum(documents)
        arrays = {
            "ids": (np.arange(first, first + count) % 60_000).astype(np.uint16),
            "starts": np.concatenate([[0], np.cumsum(documents)]).astype(np.uint64),
        }
        files = {}
        for name, array in arrays.items():
            path, body = f"train-{name}-{number:05d}.npy", npy_bytes(array)
            store.write(f"{folder}/{path}", body)
            files[name] = TokenFile.of(path, body, array.nbytes)
        sides.append(ShardSide(len(documents), count, 4 * count, files["ids"], files["starts"]))
        first += count
    return TokenIndex("uint16", 60_000, 1, 2, "", "c@1", 0.1, (*sides, ShardSide()), ())


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "disk" else f"memory://{tmp_path.name}")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (token_index, shards):
        monkeypatch.setattr(module, "BLOCK_BYTES", 64)


@pytest.mark.usefixtures("small_blocks")
def test_rows_cross_shards_and_documents_come_from_their_places(store: Store, tmp_path: Path) -> None:
    folder = store.path("tokens")
    index = write_index(store, folder)
    stream = ShardStream(reader_of(store, folder, tmp_path / "cache"), index, "train")
    total = sum(map(sum, LENGTHS))
    assert (len(stream), stream.documents) == (total, 7)
    for length in (1, 7, total):
        starts = np.arange(total - length + 1)
        assert (stream.rows(starts, length) == starts[:, None] + np.arange(length)).all()
    begins = [0, 5, 6, 36, 236, 239, 242, 245]
    assert [stream.document(n).tolist() for n in range(7)] == [list(range(a, b)) for a, b in itertools.pairwise(begins)]
    assert isinstance(stream.reader, MappedFiles if store.local else FetchedBlocks)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_are_fetched_once_a_machine_and_the_oldest_make_room(tmp_path: Path, monkeypatch) -> None:
    store = Store(f"memory://{tmp_path.name}")
    folder, cache = store.path("tokens"), tmp_path / "cache"
    index = write_index(store, folder)
    fetched: list[tuple[str, int]] = []
    real = store.fs.cat_file

    def counted(path, start=None, end=None, **rest):
        fetched.append((path, start))
        return real(path, start=start, end=end, **rest)

    monkeypatch.setattr(store.fs, "cat_file", counted)
    starts = np.arange(200)
    for _ in range(2):  # two workers of one machine
        ShardStream(FetchedBlocks(store, folder, cache), index, "train").rows(starts, 5)
    assert len(fetched) == len(set(fetched)) > 3
    assert sum(path.stat().st_size for path in cache.glob("*/*")) <= sum(s.ids.bytes for s in index.train if s.ids)
    monkeypatch.setattr(shards, "CACHE_BYTES", 256)
    found = ShardStream(FetchedBlocks(store, folder, tmp_path / "small"), index, "train").rows(starts, 5)
    assert (found == starts[:, None] + np.arange(5)).all()
    assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*/*")) <= 256


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_block_on_the_way_or_on_the_disk_is_noticed(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}")
    folder, cache = store.path("tokens"), tmp_path / "cache"
    index = write_index(store, folder)
    ShardStream(FetchedBlocks(store, folder, cache), index, "train").rows(np.arange(30), 5)
    for path in cache.glob("*/*"):
        path.write_bytes(b"x")  # fetched again
    assert ShardStream(FetchedBlocks(store, folder, cache), index, "train").rows(np.arange(3), 2)[2, 1] == 3
    path = f"{folder}/train-ids-00001.npy"
    body = bytearray(store.read(path))
    body[-1] ^= 1
    store.write(path, bytes(body))
    stream = ShardStream(FetchedBlocks(store, folder, tmp_path / "other"), index, "train")
    with pytest.raises(IntegrityError, match=r"train-ids-00001\.npy do not match.*delete .* and run the same command"):
        stream.rows(np.array([230]), 10)


def test_a_shard_that_is_cut_or_gone_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    folder = store.path("tokens")
    index = write_index(store, folder)
    path = Path(folder) / "train-ids-00001.npy"
    for harm in (lambda: path.write_bytes(path.read_bytes()[:-2]), lambda: path.write_bytes(b""), path.unlink):
        harm()
        stream = ShardStream(MappedFiles(folder), index, "train")
        assert stream.rows(np.array([0]), 5).tolist() == [[0, 1, 2, 3, 4]]
        with pytest.raises(IntegrityError, match=r"train-ids-00001\.npy .*delete .* and run the same command again"):
            stream.rows(np.array([30]), 20)


def test_the_held_out_sample_is_of_documents_from_all_over_and_the_same_every_time(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    index = write_index(store, store.path("tokens"), [[10] * 100, [10] * 100])
    stream = ShardStream(MappedFiles(store.path("tokens")), index, "train")
    found = sampled(stream, 105, seed=1)
    assert (sampled(stream, 105, seed=1) == found).all()
    assert len(found) == 105
    assert found.max() - found.min() > 1000
    assert len(sampled(stream, 10**9, seed=1)) == 2000


MEASURED = """
import json, sys
import numpy as np
from cluster.core.storage import Store
from data_jobs.corpus.token_index import TokenIndex
from pathlib import Path
from train_jobs.data.packing import Corpus, Windows
from train_jobs.data.shards import ShardStream, reader_of

uri, cache, kind = sys.argv[1:]
store = Store(uri)
store.local = kind == "disk"  # else read like an object store, although its files are here
folder = store.path("tokens")
row = json.loads(store.read(f"{folder}/index.json"))
windows = Windows([Corpus(ShardStream(reader_of(store, folder, Path(cache)), TokenIndex.from_dict(row), "train"))],
                  512, 4096, 0)
highest = {}
for step in range(150):
    windows.batch(step)
    for line in open("/proc/self/status"):
        if line.startswith(("RssAnon", "VmHWM", "VmRSS")):
            name, value = line.split(":")
            highest[name] = max(highest.get(name, 0), int(value.split()[0]))
print(json.dumps(highest))
"""


@pytest.mark.process
@pytest.mark.parametrize("kind", ["disk", "object store"])
def test_a_worker_takes_no_more_memory_for_ten_times_the_corpus(tmp_path: Path, kind: str) -> None:
    """The highest resident memory, of its own and in all, while batches are read from 4 and from 40 MB."""
    found = {}
    for name, count in (("small", 2), ("large", 20)):
        folder = tmp_path / name
        store = Store(str(folder))
        index = write_index(store, store.path("tokens"), [[1000] * 1000] * count)
        store.write(store.path("tokens", "index.json"), index.to_json())
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(folder), str(tmp_path / f"{name}-cache"), kind], capture_output=True,
            text=True, cwd=Path(__file__).parents[3], timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout)
    for what, small in found["small"].items():
        assert found["large"][what] <= 1.05 * small, (what, found)
