"""Preparing a corpus while things break: killed at any write, a full disk; the next run ends with the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core.storage import Store
from data_jobs.corpus import packs
from tests.data_jobs.corpus.test_incremental import KEY, prepared, sentence, write

pytestmark = pytest.mark.process
BLOCKS, FILES = 4, 22
ROOT = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from cluster.core.storage import Store
from tests.data_jobs.corpus.test_incremental import prepared
root, store, number, when = Path(sys.argv[1]), Store(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
real, seen = os.replace, [0]
def replace(*given):
    seen[0] += 1
    if seen[0] == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(*given)
    if seen[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
prepared(root, store, 4)
"""

FULL = """
import resource, sys
from pathlib import Path
from cluster.core.errors import EnvironmentFaultError
from cluster.core.storage import Store
from data_jobs.text.language import detect
from tests.data_jobs.corpus.test_incremental import prepared
detect("The language model unpacks itself into a file before the disk is full.")
root, store = Path(sys.argv[1]), Store(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    prepared(root, store, 4)
except EnvironmentFaultError as error:
    print(error.message)
    sys.exit(int(error.exit_code))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "root"
    texts = [f"{sentence(n)} {sentence(n + 100)} Call ann{n}@corp.io about it." for n in range(20)]
    write(folder, {f"f{n:02}.txt": text for n, text in enumerate([*texts, texts[3], texts[4]])})
    return folder


@pytest.fixture(scope="module")
def uninterrupted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return prepared(root, Store(str(tmp_path_factory.mktemp("whole"))), BLOCKS)[0]


def child(script: str, *given: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, given)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("write", "when", "done"), [(1, "before", 0), (1, "after", 1), (3, "before", 2), (6, "after", 4), (10, "before", 4)]
)
def test_killed_at_a_write_the_next_run_redoes_what_was_not_finished(
    root: Path, uninterrupted: dict[str, bytes], tmp_path: Path, write: int, when: str, done: int
) -> None:
    """The first four writes are the blocks' packs: of them ``done`` are whole when the process is killed."""
    store = Store(str(tmp_path / "store"))
    killed = child(KILLED, root, store.uri, write, when)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = packs.locations(store, "test", KEY)
    assert len(set(kept.values())) == done
    files, cleaned, _ = prepared(root, store, BLOCKS)
    assert cleaned == FILES - len(kept)
    assert files == uninterrupted


def test_a_full_disk_is_named_and_the_next_run_goes_on(
    root: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    done = child(FULL, root, store.uri, 2000)
    assert done.returncode == 5, done.stderr
    assert "free some space" in done.stdout
    assert not list(Path(store.root).rglob("*.tmp")), "what could not be written whole is not left lying about"
    assert prepared(root, store, BLOCKS)[0] == uninterrupted
