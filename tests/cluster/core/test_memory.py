"""The folder in memory: of an instance only, nobody else's, gone when it is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core import memory
from cluster.core.memory import MARK, memory_folder, remove_memory_folder


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    monkeypatch.delenv(MARK, raising=False)
    return tmp_path


def test_processes_of_an_instance_find_the_same_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_folder() is None, "this process belongs to no instance"
    monkeypatch.setenv(MARK, "ab12")
    found = memory_folder()
    assert found == memory_folder("ab12") == root / "plinth-ab12"
    assert found.stat().st_mode & 0o777 == 0o700
    (found / "answers").write_text("secret")
    remove_memory_folder("cd34")
    assert (found / "answers").exists()
    remove_memory_folder("ab12")
    assert not found.exists()
    remove_memory_folder("ab12")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x"])
def test_a_name_leads_nowhere_else(root: Path, name: str) -> None:
    assert memory_folder(name) is None
    (root.parent / "x").mkdir(exist_ok=True)
    remove_memory_folder(name)
    assert root.exists()
    assert list(root.iterdir()) == []
    assert (root.parent / "x").exists()


def test_what_others_can_get_at_is_not_used(root: Path) -> None:
    (root / "plinth-a").mkdir(mode=0o777)
    (root / "plinth-a").chmod(0o755)
    (root / "elsewhere").mkdir(mode=0o700)
    (root / "plinth-b").symlink_to(root / "elsewhere")
    (root / "plinth-c").write_text("")
    assert [memory_folder(name) for name in "abc"] == [None, None, None]


def test_a_machine_without_such_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ROOT", root / "missing")
    assert memory_folder("ab12") is None
