"""Watching the head: what counts as dead, how often it is put up again, and that only one process watches."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import supervision
from cluster.core.home import Home
from cluster.processes import born
from cluster.supervision import (
    NEEDED,
    Backoff,
    Part,
    Watch,
    _name,
    first_death,
    missing_part,
    stop_watching,
    unit,
    watch,
)  # fmt: skip


@contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that lives until it is ended."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as found:
        yield found
        found.kill()


def test_restarts_come_later_and_later_and_end() -> None:
    backoff = Backoff(limit=7, window_s=1000)
    assert [backoff.next(float(at)) for at in range(8)] == [0, 5, 15, 30, 60, 60, 60, None]
    assert backoff.next(2000.0) == 0, "a quiet time makes it begin anew"


def test_what_died_is_named_and_a_later_process_of_its_number_is_not_it() -> None:
    with process() as child:
        alive = [Part(name, child.pid, born(child.pid)) for name in NEEDED]
        assert missing_part(alive) == ""
        later = [*alive[:-1], replace(alive[-1], born=alive[-1].born - 1)]
        assert missing_part(later) == NEEDED[-1]
        child.kill()
        child.wait()
        assert missing_part(alive) == NEEDED[0]


def test_a_head_that_lacked_a_part_to_begin_with_is_dead() -> None:
    own = born(os.getpid())
    parts = [Part(name, os.getpid(), own) for name in NEEDED if name != "raylet"]
    assert missing_part(parts) == "raylet"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/venv/ray/core/src/ray/raylet/raylet", "--node-id=x.py"], "raylet"),
        (["/venv/bin/python", "-u", "/venv/ray/dashboard/dashboard.py", "--host=127.0.0.1"], "dashboard"),
        (["/venv/bin/python", "-m", "ray.util.client.server"], "ray.util.client.server"),
        (["ray::DashboardAgent   "], "ray::DashboardAgent"),
        ([""], ""),
    ],
)
def test_processes_have_short_names(words: list[str], name: str) -> None:
    assert _name(words) == name


def test_what_dies_is_put_up_again_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    home, deaths, waited, seen = Home(tmp_path), iter(["raylet", "dashboard", ""]), [], []

    def restart() -> int:
        seen.append(Watch.read(home))
        return 0

    monkeypatch.setattr(supervision, "first_death", lambda home, wait: next(deaths))
    assert watch(home, restart, clock=lambda: 0.0, wait=waited.append) == 0
    assert waited == [0, 5]
    assert [found.restarts for found in seen] == [1, 2], "told before the restart, so that what it starts can read it"
    assert seen[1].last.startswith("dashboard died, ")
    events = (tmp_path / "logs" / "cluster.jsonl").read_text()
    assert events.count("head_restarted") == 2


def test_a_restart_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    deaths, codes, waited = iter(["raylet", ""]), iter([5, 5, 0]), []
    monkeypatch.setattr(supervision, "first_death", lambda home, wait: next(deaths))
    assert watch(Home(tmp_path), lambda: next(codes), clock=lambda: 0.0, wait=waited.append) == 0
    assert waited == [0, 5, 15]
    assert Watch.read(Home(tmp_path)).last.startswith("the restart failed, ")


def test_it_gives_up_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    home, restarts = Home(tmp_path), []

    def restart() -> int:
        restarts.append(1)
        return 5

    monkeypatch.setattr(supervision, "first_death", lambda home, wait: "head")
    assert watch(home, restart, clock=lambda: 0.0, wait=lambda seconds: None) == 5
    assert len(restarts) == supervision.LIMIT
    assert Watch.read(home).restarts == supervision.LIMIT, "giving up is no restart"
    assert Watch.read(home).gave_up


def test_a_second_one_leaves_the_first_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with open(home.run / "supervisor.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert watch(home, lambda: 1 // 0) == 0
    assert not (home.run / "supervisor.json").exists()


def test_nothing_there_is_dead_and_a_home_that_is_gone_ends_it(tmp_path: Path) -> None:
    assert first_death(Home(tmp_path)) == "head"
    assert first_death(Home(tmp_path / "gone")) == ""


def test_down_ends_what_watches(tmp_path: Path) -> None:
    home = Home(tmp_path)
    stop_watching(home)  # nobody does
    with process() as child:
        Watch(child.pid, born(child.pid), 2, "raylet died").write(home)
        assert Watch.read(home).lives
        stop_watching(home)
        assert child.wait(timeout=10) != 0
    assert not (home.run / "supervisor.json").exists()


def test_a_number_taken_by_another_process_is_left_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with process() as child:
        Watch(child.pid, born(child.pid) - 1).write(home)
        stop_watching(home)
        assert child.poll() is None


def test_the_unit_holds_no_secret(tmp_path: Path) -> None:
    text = unit(Home(tmp_path), {"PATH": "/usr/bin", "MY_TOKEN": "s3cret"})
    assert f'Environment="PLINTH_HOME={tmp_path}"' in text
    assert "supervise\n" in text
    assert "s3cret" not in text
