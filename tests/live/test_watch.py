"""`plinth index watch` as a process of its own beside a running retriever: how soon a change is found, and kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.storage import Store
from data_jobs.indexing.update_index import indexed_documents
from serve_apps.replicas.retriever import RetrieverReplica

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.ci]
ROOT = Path(__file__).resolve().parents[2]
VISIBLE_S = 5.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "notes"
    made.mkdir()
    for number in range(40):
        (made / f"n{number}.md").write_text(f"# Note {number}\n\nIt speaks of harbour number {number} and its boats.\n")
    return made


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cluster.cli.main", "index", "watch", str(folder), "--json", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def watcher(home: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(folder)
    yield process
    process.kill()
    process.communicate()


def lines(process: subprocess.Popen[str], count: int) -> list[dict[str, object]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


async def seconds_until(replica: RetrieverReplica, question: str, found: str, there: bool = True) -> float:
    began = time.monotonic()
    while True:
        passages = (await replica.search(question)).passages
        first = bool(passages) and passages[0].document == found
        if first if there else all(p.document != found for p in passages):
            return time.monotonic() - began
        assert time.monotonic() - began < VISIBLE_S, f"not after {VISIBLE_S} s"
        await asyncio.sleep(0.02)


def test_changes_are_found_in_under_five_seconds(watcher: subprocess.Popen[str], folder: Path) -> None:
    assert {line["action"] for line in lines(watcher, 40)} == {"added"}

    async def scenario() -> list[float]:
        replica = RetrieverReplica(PlinthConfig())
        replica.follow()
        (folder / "zebra.md").write_text("A zebra has black and white stripes and lives in the savanna.\n")
        took = [await seconds_until(replica, "Where does the zebra live?", "zebra.md")]
        (folder / "zebra.md").write_text("The walrus rests on drifting ice floes in the arctic sea.\n")
        took.append(await seconds_until(replica, "Where does the walrus rest?", "zebra.md"))
        (folder / "zebra.md").unlink()
        took.append(await seconds_until(replica, "Where does the walrus rest?", "zebra.md", there=False))
        return took

    took = asyncio.run(scenario())
    print("seconds until an added, a changed, a deleted file shows:", [round(s, 2) for s in took])
    assert max(took) < VISIBLE_S
    assert [line["action"] for line in lines(watcher, 3)] == ["added", "changed", "deleted"]


@pytest.mark.slow
@pytest.mark.ci
def test_killed_while_it_fills_an_index_it_goes_on(home: Path, folder: Path) -> None:
    for number in range(400):
        (folder / f"more{number}.md").write_text(f"Note {number} is about the number {number * number}.\n")
    store = Store(str(home / "store"))
    first = start(folder)
    lines(first, 1)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    part = set(indexed_documents(store, store.manifest("indexes", "main", "live")))
    assert 0 < len(part) < 440
    (folder / "more0.md").unlink()
    second = start(folder, "--once")
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    added = [json.loads(line)["path"] for line in out.splitlines()]
    assert len(added) < 440
    assert set(indexed_documents(store, store.manifest("indexes", "main", "live"))) == {
        path.name for path in folder.iterdir()
    }
