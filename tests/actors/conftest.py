"""A real PostgreSQL server for the tests of what may be kept in one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of its own, on a socket in a folder; yields the address of an empty database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    needs(bool(found), "PostgreSQL (apt-get install postgresql)")
    programs, folder = found[-1].parent, Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    owner = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    if owner:
        shutil.chown(folder, "postgres", "postgres")

    def run(*words: str) -> None:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, **owner)
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    run(str(programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c shared_buffers=16MB"
    # Its output goes to a file: a server that holds the pipe open would keep ``run`` waiting.
    run(str(programs / "pg_ctl"), "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
