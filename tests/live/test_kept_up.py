"""Whatever process of the head is killed, the platform answers again by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.core.home import Home
from cluster.local_head import recorded
from cluster.loopback import get
from cluster.processes import free_ports
from cluster.supervision import AGENTS, Watch, parts_of
from tests.live.conftest import eventually, settings_for

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1500)]
BACK_S = 300  # 90 on an idle machine


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Callable[..., Any]]]:
    """A platform without documents, and how to run its verbs."""
    root = tmp_path_factory.mktemp("kept") / "home"
    environ = {**os.environ, "PLINTH_HOME": str(root)}
    environ.pop("PLINTH_STORE", None)

    def plinth(*words: str) -> Any:
        command = [sys.executable, "-m", "cluster.cli.main", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600, check=False)

    started = plinth("up", *settings_for(free_ports(3)))
    assert started.returncode == 0, started.stdout + started.stderr
    yield Home(root), plinth
    instance = recorded(Home(root))
    assert plinth("down").returncode == 0
    assert instance is None or instance.processes() == []
    assert not Watch.read(Home(root)).lives


@pytest.mark.parametrize(
    "part",
    [pytest.param("raylet", marks=pytest.mark.ci), "gcs_server", "dashboard", "log_monitor", *AGENTS, "head"],
)
def test_a_killed_process_of_the_head_is_survived(up: tuple[Home, Callable[..., Any]], part: str) -> None:
    home, plinth = up
    eventually(lambda: Watch.read(home).lives, 60)
    before, watched = recorded(home), Watch.read(home)
    assert before is not None
    victim = next(found for found in parts_of(before) if found.name == part)
    os.kill(victim.pid, signal.SIGKILL)

    def answers_anew() -> bool:
        now = recorded(home)
        try:
            return now is not None and now.id != before.id and get(f"{now.base_url}/healthz", 5).status == 200
        except OSError:
            return False

    eventually(answers_anew, BACK_S)
    assert Watch.read(home).restarts > watched.restarts
    assert Watch.read(home).pid == watched.pid, "the same process watches on"
    shown = plinth("status").stdout
    assert "somebody watches" in shown
