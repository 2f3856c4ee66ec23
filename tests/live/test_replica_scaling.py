"""Replicas come and go with the load on a real local Ray: one client, ten, one (``scaling_scenario.py``).

Measured figures are in LOG.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import local_head
from cluster.core.home import Home
from cluster.core.presets import preset
from cluster.processes import free_ports
from tests.live.conftest import settings_for
from tests.live.scaling_scenario import ITEM_S, STREAM_S, WORK_S
from tests.test_architecture import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]
Seen = dict[str, Any]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Everything the scenario saw, on a head of its own."""
    home = Home(tmp_path_factory.mktemp("scaling") / "home")
    environ = {**os.environ, "PLINTH_HOME": str(home.root), "PYTHONPATH": str(ROOT)}
    environ.pop("PLINTH_STORE", None)
    overrides = [setting for setting in settings_for(free_ports(3)) if setting != "--set"]
    try:
        local_head.start(preset("laptop", overrides), home, environ)
        command = [sys.executable, "-m", "tests.live.scaling_scenario"]
        log = home.root / "scenario.log"
        with open(log, "wb") as out:
            done = subprocess.run(command, env=environ, cwd=ROOT, stdout=out, stderr=out, timeout=480, check=False)
        assert done.returncode == 0, log.read_text(errors="replace")[-6000:]
        yield json.loads((home.root / "seen.json").read_text())
    finally:
        local_head.stop(home)


def running(seen: Seen, begin: float, end: float) -> list[int]:
    return [count for at, count, _ in seen["counts"] if begin <= at < end]


def percentiles(seen: Seen, begin: float, end: float) -> tuple[float, float]:
    """The median and the 95th percentile of the seconds that requests took."""
    took = sorted(seconds for at, seconds in seen["answers"] if begin <= at < end)
    return took[len(took) // 2], took[int(0.95 * len(took))]


def test_replicas_rise_with_the_crowd_and_fall_after_it(seen: Seen) -> None:
    assert set(running(seen, *seen["alone"])) == {1}
    assert max(running(seen, *seen["crowd"])) == 5
    assert running(seen, *seen["after"])[-1] == 1


def test_what_requests_take_recovers(seen: Seen) -> None:
    begin, end = seen["crowd"]
    crowded, recovered = percentiles(seen, begin, begin + 8), percentiles(seen, end - 20, end)
    assert crowded[1] > 5 * WORK_S, "ten wait for one"
    assert recovered[0] < 0.5 * crowded[0]
    assert recovered[1] < 0.75 * crowded[1], "some meet a replica that has more than its share"


def test_there_are_few_scale_events_and_everybody_is_told_of_them(seen: Seen) -> None:
    found = seen["deployment"]
    assert 2 <= found["ups"] + found["downs"] <= 6
    assert (found["running"], found["target"], found["min"], found["max"]) == (1, 1, 1, 5)
    assert (found["last"]["after"], found["last"]["why"]) == (1, "less load")
    counted = {line.partition('direction="')[2].partition('"')[0]: float(line.split()[-1]) for line in seen["metrics"]}
    assert counted == {"up": found["ups"], "down": found["downs"]}


def test_a_replica_that_is_taken_away_finishes_its_streams(seen: Seen) -> None:
    """Streams on more replicas than are left when they end: all of them end whole."""
    assert [stream["items"] for stream in seen["streams"]] == [round(STREAM_S / ITEM_S)] * 3
    assert all(len(stream["pids"]) == 1 for stream in seen["streams"])
    assert len({stream["pids"][0] for stream in seen["streams"]}) > min(one["running"] for one in seen["streams"])
