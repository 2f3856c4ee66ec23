"""PLINTH_HOME and a store elsewhere are their user's alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_open_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, store = tmp_path / "home", tmp_path / "elsewhere"
    for path in (root, store):
        path.mkdir()
        path.chmod(0o755)
    monkeypatch.setenv("PLINTH_STORE", f"file://{store}")
    home = Home(root)
    assert home.open_folders() == [root, store]
    assert home.keep_private() == [root, store]
    assert (mode(root), mode(store)) == (0o700, 0o700)
    assert home.keep_private() == []
    store.chmod(0o1777)
    with pytest.raises(EnvironmentFaultError, match="every user's folder"):
        home.keep_private()
    assert store.stat().st_mode & 0o7777 == 0o1777, "left as it was"
    monkeypatch.setenv("PLINTH_STORE", "s3://bucket/folder")
    assert home.open_folders() == []


def test_what_a_verb_writes_nobody_else_reads(tmp_path: Path) -> None:
    """Whatever the shell's umask says; a store outside PLINTH_HOME too."""
    store = tmp_path / "store"
    code = (
        "import os, sys; os.umask(0o022)\n"
        "from cluster.core.entry import run_main\n"
        "from cluster.core.storage import Store\n"
        "def work():\n"
        "    store = Store(sys.argv[1])\n"
        "    store.write(f'{store.root}/datasets/a/x.txt', b'x')\n"
        "    return 0\n"
        "sys.exit(run_main(work))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = list(store.rglob("*"))
    assert found
    assert [path for path in found if mode(path) & 0o077] == []
