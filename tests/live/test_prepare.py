"""Preparing a corpus on real Ray clusters: killed and resumed, one worker or several, hostile folders, exit codes."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster import local_head
from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.sections.cluster import ClusterSection
from cluster.core.storage import Store
from cluster.processes import free_ports
from data_jobs.corpus.report import check_balance, load_report
from tests.live.conftest import eventually

pytestmark = pytest.mark.live
BLOCKS = 40
WORDS = [f"{a}{b}{c}" for a in "bdfglmnprst" for b in "aeiou" for c in "bdgklmnprst"]


@dataclass
class Cluster:
    """A Ray head of its own, without the service, and how a job is run on it from another process."""

    home: Path

    def environ(self, store: Path) -> dict[str, str]:
        return {**os.environ, "PLINTH_HOME": str(self.home), "PLINTH_STORE": str(store)}

    def prepare(self, store: Path, source: Path, blocks: int = 8) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            prepare_command(source, blocks),
            env=self.environ(store),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (Home(self.home).logs / "data.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]


@contextmanager
def ray_head(home: Path, cpus: int) -> Iterator[Cluster]:
    ports = dict(zip(("http_port", "gcs_port", "dashboard_port"), free_ports(3), strict=True))
    section = ClusterSection(cpus=cpus, object_store_mb=150, **ports)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLINTH_HOME", str(home))
        local_head.start(PlinthConfig(cluster=section), Home(home))
        try:
            yield Cluster(home)
        finally:
            local_head.stop(Home(home))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ray_head(tmp_path_factory.mktemp("prepare") / "home", cpus=3) as started:
        yield started


def prepare_command(source: Path, blocks: int) -> list[str]:
    command = [sys.executable, "-m", "data_jobs", "prepare", "--source", str(source), "--json"]
    return [*command, "--set", f"data.blocks={blocks}"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty documents of 200 KB: long enough that a kill falls into the middle of the work."""
    folder = tmp_path_factory.mktemp("library")
    for number in range(BLOCKS):
        dice = random.Random(number)
        lines = [" ".join(dice.choices(WORDS, k=12)) for _ in range(4000)]
        (folder / f"volume{number:02}.txt").write_text("\n".join([f"Write to ann{number}@corp.io about it.", *lines]))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    store = tmp_path_factory.mktemp("uninterrupted")
    done = cluster.prepare(store, library, BLOCKS)
    assert done.returncode == 0, done.stderr
    (manifest,) = Store(str(store)).versions("datasets", "library0")
    return manifest


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(
    cluster: Cluster, uninterrupted: Manifest, library: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    driver = subprocess.Popen(
        prepare_command(library, BLOCKS),
        env=cluster.environ(store),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: list(store.glob("cache/clean/*/*/*.parquet")), timeout_s=240, what="a finished block")
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert not list(store.glob("datasets/*/*/manifest.json"))
    staged = len(list(store.glob("cache/clean/*/*/*.parquet")))
    assert 0 < staged < BLOCKS

    resumed = cluster.prepare(store, library, BLOCKS)
    assert resumed.returncode == 0, resumed.stderr
    (manifest,) = Store(str(store)).versions("datasets", "library0")
    planned = cluster.events("blocks_planned")[-1]
    assert planned["run_key"] == manifest.run_key
    assert planned["done"] >= staged, "blocks that were done must not be done again"
    assert not list(store.glob("staging/*"))
    assert manifest.files == uninterrupted.files
    assert manifest.run_key == uninterrupted.run_key


@pytest.mark.slow
def test_one_changed_file_of_many_is_cleaned_alone(cluster: Cluster, tmp_path: Path) -> None:
    source, other = tmp_path / "notes", tmp_path / "elsewhere" / "notes"
    for folder in (source, other):
        folder.mkdir(parents=True)
        for number in range(300):
            dice = random.Random(number)
            (folder / f"note{number:03}.txt").write_text(" ".join(dice.choices(WORDS, k=60)) + f" note{number}")
    assert cluster.prepare(tmp_path / "store", source).returncode == 0
    for folder in (source, other):
        (folder / "note150.txt").write_text("These are quite other words than there were before in this file.")
    again = cluster.prepare(tmp_path / "store", source)
    assert again.returncode == 0, again.stderr
    counts = json.loads(again.stdout)["counts"]
    assert (counts["files_processed"], counts["files_reused"]) == (1, 299)

    scratch = cluster.prepare(tmp_path / "fresh", other)
    assert scratch.returncode == 0, scratch.stderr
    assert json.loads(scratch.stdout)["version"] == json.loads(again.stdout)["version"]


@pytest.mark.slow
@pytest.mark.ci
def test_a_forgotten_document_stays_out_while_its_file_is_still_there(cluster: Cluster, tmp_path: Path) -> None:
    source, store = tmp_path / "letters", tmp_path / "store"
    source.mkdir()
    for name in ("ann", "bob", "eve"):
        (source / f"{name}.txt").write_text(f"A letter from {name}, which tells what {name} did in the summer.")

    def plinth(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cluster.cli.main", *arguments, "--json"]
        return subprocess.run(
            command, env=cluster.environ(store), capture_output=True, text=True, timeout=60, check=False
        )

    assert cluster.prepare(store, source).returncode == 0
    forgotten = plinth("data", "forget", "--document", "ann.txt", "--why", "asked to")
    assert forgotten.returncode == 0, forgotten.stderr
    receipt = json.loads(forgotten.stdout)
    (source / "renamed.txt").write_text((source / "ann.txt").read_text())
    again = cluster.prepare(store, source)
    assert again.returncode == 0, again.stderr
    counts = json.loads(again.stdout)["counts"]
    assert (counts["kept"], counts["reasons"]) == (2, {"forgotten": 2})
    version = json.loads(again.stdout)["version"]
    made = [*store.glob("cache/**/*.parquet"), *store.glob(f"datasets/*/{version}/*.parquet")]
    texts = "".join(str(pq.read_table(path).to_pylist()) for path in made)
    assert "what bob did" in texts
    assert "what ann did" not in texts
    checked = plinth("data", "forget", "--verify", receipt["receipt"])
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["came_back"] == []


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_worker_costs_a_block_and_changes_nothing(
    cluster: Cluster, uninterrupted: Manifest, library: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    driver = subprocess.Popen(
        prepare_command(library, BLOCKS), env=cluster.environ(store), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: list(store.glob("cache/clean/*/*/*.parquet")), timeout_s=240, what="a finished block")
        instance = local_head.recorded(Home(cluster.home))
        assert instance is not None

        def busy() -> list[int]:
            # Between two blocks a worker has no task, and for that moment not its name.
            return [p.pid for p in instance.processes() if "ray::Map" in p.command]

        os.kill(eventually(busy, what="a worker at work")[0], signal.SIGKILL)
        assert driver.wait(timeout=200) == 0
    finally:
        driver.kill()
        driver.wait()
    (manifest,) = Store(str(store)).versions("datasets", "library0")
    assert manifest.files == uninterrupted.files


@pytest.mark.slow
def test_one_worker_makes_the_same_bytes(uninterrupted: Manifest, library: Path, tmp_path: Path) -> None:
    with ray_head(tmp_path / "home", cpus=1) as single:
        alone = single.prepare(tmp_path / "store", library, BLOCKS)
    assert alone.returncode == 0, alone.stderr
    (manifest,) = Store(str(tmp_path / "store")).versions("datasets", "library0")
    assert manifest.files == uninterrupted.files


@pytest.mark.slow
@pytest.mark.ci
def test_a_hostile_folder_is_reported_file_by_file(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "Mixed Bag"
    source.mkdir()
    (source / "good.md").write_text("# Good\n\nA document that is kept; write to ann@corp.io for more.")
    (source / "copy.txt").write_text("# Good\n\nA document that is kept; write to ann@corp.io for more.")
    (source / "latin.txt").write_bytes("für Größe".encode("latin-1"))
    (source / "wide.txt").write_bytes(b"some words\0 and more of them")
    (source / "huge.txt").write_bytes(b"x" * 50_000_000)
    (source / "new\nline.md").write_text("text")
    (source / "self").symlink_to("self")
    (source / "r.jsonl").write_text('{"text": "one record of some words"}\n{"text": 1}\n{"text": "short"}\n{\n')
    done = cluster.prepare(tmp_path / "store", source)
    assert done.returncode == 0, done.stderr
    store = Store(str(tmp_path / "store"))
    manifest = store.manifest("datasets", "mixed-bag", "latest")
    counts = manifest.counts
    check_balance(counts)
    assert {name: counts[name] for name in ("files_seen", "files_read", "records_in", "kept", "pii")} == {
        "files_seen": 8, "files_read": 3, "records_in": 6, "kept": 2, "pii": {"EMAIL": 1},
    }  # fmt: skip
    report = load_report(store, manifest)
    assert {(q["source"], q["record"]): q["reason"] for q in report["quarantined"]} == {
        ("latin.txt", ""): "invalid_utf8", ("wide.txt", ""): "nul_bytes", ("huge.txt", ""): "too_large",
        ("new\\nline.md", ""): "bad_name", ("self", ""): "symlink_loop", ("r.jsonl", "2"): "text_not_string",
        ("r.jsonl", "4"): "bad_json",
    }  # fmt: skip
    assert {d["document"]: (d["reason"], d["kept"]) for d in report["dropped"]} == {
        "copy.txt": ("exact_duplicate", "good.md"), "r.jsonl#3": ("too_few_words", ""),
    }  # fmt: skip
    rows = [
        row
        for entry in manifest.files
        if entry.path.startswith("documents-")
        for row in pq.read_table(io.BytesIO(store.read(f"{store.artefact(manifest)}/{entry.path}"))).to_pylist()
    ]
    assert sum("<EMAIL_1>" in row["text"] for row in rows) == 1
    assert not any("ann@corp.io" in json.dumps(row) for row in rows)

    again = cluster.prepare(tmp_path / "store", source)
    assert again.returncode == 0
    assert cluster.events("dataset_reused")[-1]["version"] == manifest.version


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("kind", ["missing", "empty", "file", "nothing_left"])
def test_a_source_of_no_use_exits_3_with_one_line(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "file":
        source.write_text("text")
    elif kind != "missing":
        source.mkdir()
    if kind == "nothing_left":
        (source / "a.txt").write_text("short")
        (source / "b.bin").write_bytes(b"\0")
    done = cluster.prepare(tmp_path / "store", source)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "store").glob("datasets/*/*/manifest.json"))


@pytest.mark.slow
@pytest.mark.ci
def test_a_store_that_cannot_be_written_exits_5(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("A document with enough words in it.")
    store = tmp_path / "store"
    store.write_text("a file where the store's folder should be")
    done = cluster.prepare(store, source)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 3 MiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a filesystem can be mounted by root only: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
@pytest.mark.ci
def test_a_disk_that_fills_up_exits_5_with_one_line_and_the_next_run_goes_on(
    cluster: Cluster, uninterrupted: Manifest, library: Path, small_disk: Path
) -> None:
    done = cluster.prepare(small_disk, library, BLOCKS)
    assert done.returncode == 5, done.stderr
    assert "No space left on device; free some space" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) < 5
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    again = cluster.prepare(small_disk, library, BLOCKS)
    assert again.returncode == 0, again.stderr
    assert cluster.events("blocks_planned")[-1]["done"] > 0, "what was written before is used"
    (manifest,) = Store(str(small_disk)).versions("datasets", "library0")
    assert manifest.files == uninterrupted.files
