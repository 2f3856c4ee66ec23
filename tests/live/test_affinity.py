"""Prompts stay where their beginning was read, and a dead replica costs nobody an answer (``affinity_scenario.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import local_head
from cluster.core.home import Home
from cluster.core.presets import preset
from cluster.processes import free_ports
from serve_apps.gateway.handles import DEAD_AFTER_S
from tests.live.conftest import settings_for
from tests.test_architecture import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Everything the scenario saw, on a head of its own."""
    home = Home(tmp_path_factory.mktemp("affinity") / "home")
    environ = {**os.environ, "PLINTH_HOME": str(home.root), "PYTHONPATH": str(ROOT)}
    environ.pop("PLINTH_STORE", None)
    overrides = [setting for setting in settings_for(free_ports(3)) if setting != "--set"]
    try:
        local_head.start(preset("laptop", overrides), home, environ)
        command = [sys.executable, "-m", "tests.live.affinity_scenario"]
        log = home.root / "scenario.log"
        with open(log, "wb") as out:
            done = subprocess.run(command, env=environ, cwd=ROOT, stdout=out, stderr=out, timeout=300, check=False)
        assert done.returncode == 0, log.read_text(errors="replace")[-6000:]
        yield json.loads((home.root / "seen.json").read_text())
    finally:
        local_head.stop(home)


def test_two_conversations_stay_on_their_replicas(seen: dict[str, Any]) -> None:
    for conversation in ("leave", "travel"):
        assert len(set(seen[conversation])) == 1


def test_a_busy_replica_spills_over(seen: dict[str, Any]) -> None:
    shares = Counter(seen["crowd"])
    assert len(shares) == 2
    assert max(shares.values()) - min(shares.values()) <= 2, "as many in each, but for the slack"


def test_a_killed_replica_costs_no_answer(seen: dict[str, Any]) -> None:
    assert all(one["pid"] not in (0, seen["killed"]) for one in seen["after"])
    assert max(one["s"] for one in seen["after"]) < 1.0


def test_without_any_replica_nobody_waits_for_one(seen: dict[str, Any]) -> None:
    """The first to ask waits until the tier's silence is known, nobody after that: another tier answers them."""
    first, *later = seen["none_left"]
    assert first["s"] < DEAD_AFTER_S + 0.5, seen["none_left"]
    assert max(one["s"] for one in later) < 0.5, seen["none_left"]
