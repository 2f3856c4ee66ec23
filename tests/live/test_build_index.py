"""Building an index on a real cluster: complete, reused, and resumed after the driver was killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.errors import BadInputError
from cluster.core.records import Document, Manifest
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.storage import Store

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]

# Each build runs in a process of its own, with a cluster of its own, so that killing it is a real crash.
DRIVER = """
import sys
from pathlib import Path
import ray
from cluster.core.config import PlinthConfig
from cluster.core.sections.data import IndexSection
from cluster.core.progress import Silent
from cluster.core.storage import Store
from data_jobs.build_index import build

class Loud(Silent):
    def stage(self, name, total=None, unit=""):
        print("stage", name, total, flush=True)

    def advance(self, amount=1):
        print("advance", amount, flush=True)

store = Store(sys.argv[1])
memory = dict(object_store_memory=150_000_000)
ray.init(num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[2], log_to_driver=False, **memory)
dataset = store.manifest("datasets", "notes", sys.argv[3])
manifest = build(PlinthConfig(index=IndexSection(embed_workers=2)), store, dataset, Loud())
print("built", manifest.version, flush=True)
ray.shutdown()
"""


@pytest.fixture
def store(home: Path) -> Store:
    return Store(str(home / "store"))


@pytest.fixture
def temp_dir() -> str:
    return f"/tmp/pi{os.getpid()}"  # Ray's sockets need a short path


def dataset(store: Store, number: int, changed: int = 0) -> Manifest:
    """A dataset of ``number`` notes, the first ``changed`` of which say something else."""
    staging = store.staging("dataset")
    documents = [
        Document(
            f"note-{i}.md",
            f"Note {i}",
            f"Note {i}. " + f"It speaks of {'zebra' if i < changed else 'topic'} {i * i}. " * (i % 8 + 1),
            f"note-{i}.md",
        )
        for i in range(number)
    ]
    pq.write_table(pa.Table.from_pylist([d.to_dict() for d in documents]), f"{staging}/documents-00000.parquet")
    return store.publish("datasets", "notes", staging, run_key="dataset")


def start(store: Store, made: Manifest, temp_dir: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, store.uri, temp_dir, made.version],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finished(driver: subprocess.Popen[str]) -> tuple[str, str]:
    """The built version, and what the driver printed."""
    out, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err[-2000:]
    return next(line.split()[1] for line in out.splitlines() if line.startswith("built")), out


def blocks(store: Store) -> dict[str, float]:
    """Finished block files and when they were written."""
    return {p.name: p.stat().st_mtime for p in Path(store.path("staging")).rglob("block-*.npz")}


def embedded(out: str) -> tuple[int, list[int]]:
    """The number of chunks, and how many each step of embedding made; the first step tells what was there before."""
    stage = next(line.split() for line in out.splitlines() if line.startswith("stage embed"))
    steps = out.partition("stage embed")[2].splitlines()
    return int(stage[2]), [int(line.split()[1]) for line in steps if line.startswith("advance")]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(900)  # four builds, each with a cluster of its own
def test_killed_builds_resume_and_searching_works(store: Store, temp_dir: str, tmp_path: Path) -> None:
    made = dataset(store, 900)
    first = start(store, made, temp_dir)
    deadline = time.monotonic() + 400
    while len(blocks(store)) < 2:  # killed as soon as some blocks, but not all, are done
        assert first.poll() is None, first.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "no block was finished in time"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = blocks(store)
    assert kept
    assert store.names("indexes") == []
    version, out = finished(start(store, made, temp_dir))
    chunks, (before, *steps) = embedded(out)
    assert before >= len(kept)  # none of the finished blocks was made again
    assert before + sum(steps) == chunks
    manifest = store.manifest("indexes", "main", version)
    store.verify(manifest)
    assert not blocks(store)  # the staging folder of the blocks is gone
    assert (manifest.counts["documents"], manifest.inputs) == (900, {"dataset": f"notes@{made.version}"})
    assert manifest.counts["chunks"] >= 900
    again, out = finished(start(store, made, temp_dir))
    assert (again, "stage" in out) == (version, False)  # reused
    check_search(store, manifest, tmp_path)
    assert manifest.counts["embedded"] == manifest.counts["texts"]
    after = store.manifest("indexes", "main", finished(start(store, dataset(store, 900, 9), temp_dir))[0])
    assert after.version != version
    assert 9 <= after.counts["embedded"] < 0.05 * after.counts["texts"]  # only what changed is embedded again
    check_search(store, after, tmp_path)


def check_search(store: Store, manifest: Manifest, cache: Path) -> None:
    from data_jobs.retrieval.embedder import load_embedder
    from data_jobs.retrieval.search import Searcher
    from data_jobs.retrieval.snapshot import Snapshot

    embedder = load_embedder(IndexSection())
    assert manifest.config["fingerprint"] == embedder.fingerprint
    snapshot = Snapshot.load(store.fetch(manifest, cache), manifest, embedder.fingerprint)
    found = Searcher(snapshot, embedder, RetrievalSection()).search("which note speaks of topic 1369?")
    assert found.passages[0].document == "note-37.md"
    assert found.index_version == manifest.version


def test_a_dataset_without_documents_is_refused(store: Store) -> None:
    from data_jobs.build_index import read_documents

    staging = store.staging("empty")
    (Path(staging) / "report.json").write_text("{}")
    made = store.publish("datasets", "notes", staging, run_key="empty")
    with pytest.raises(BadInputError, match="nothing to index"):
        read_documents(store, made)
