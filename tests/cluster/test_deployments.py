"""`plinth status` shows replicas and scale events: what Ray's dashboard says, and what the policy wrote down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.core.home import Home
from cluster.core.telemetry import log_event
from cluster.deployments import Deployment, deployments, scale_events
from cluster.local_head import Instance

SINCE = "2026-01-01T00:00:00+00:00"
TOKEN = "abc123"


def replicas(running: int, starting: int = 0) -> list[dict[str, str]]:
    return [{"state": "RUNNING"}] * running + [{"state": "STARTING"}] * starting


SAID = {
    "guard": {"target_num_replicas": 3, "deployment_config": {"autoscaling_config": {"min_replicas": 1,
              "max_replicas": 4}}, "replicas": replicas(2, 1), "status": "UNHEALTHY",
              "message": "It failed. Error:\n\x1b[36mray::x()\x1b[39m\n  File a.py\n\x1b[31mValueError: no\x1b[0m\n"},
    "gateway": {"target_num_replicas": 2, "deployment_config": {}, "replicas": replicas(2), "status": "HEALTHY",
                "message": ""},
}  # fmt: skip


@pytest.fixture
def dashboard() -> Iterator[Instance]:
    """What Ray's dashboard says to who has the token."""

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Bearer {TOKEN}"
            self.send_response(200 if known else 401)
            self.end_headers()
            said: dict[str, Any] = {"applications": {"plinth": {"deployments": SAID}}} if known else {}
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    yield Instance("id", "127.0.0.1", port, port, port, {}, "/nowhere", SINCE)
    server.shutdown()
    server.server_close()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    found = Home.from_env()
    found.token_path.write_text(TOKEN + "\n")
    return found


def test_replicas_with_their_events(own: Home, dashboard: Instance) -> None:
    for before, after, why in ((1, 4, "load"), (4, 3, "less load")):
        log_event("scaling", "scaled", deployment="guard", before=before, after=after, why=why)
    gateway, guard = deployments(own, dashboard)
    assert gateway == Deployment("gateway", 2, 2, 2, 2)
    assert (guard.name, guard.running, guard.target, guard.min, guard.max) == ("guard", 2, 3, 1, 4)
    assert (guard.ups, guard.downs) == (1, 1)
    assert (guard.problem, gateway.problem) == ("ValueError: no", "")
    assert guard.last is not None
    assert (guard.last["before"], guard.last["after"], guard.last["why"]) == (4, 3, "less load")
    assert guard.to_dict()["last"]["at"] > SINCE


def test_a_dashboard_that_does_not_say_is_no_error(own: Home, dashboard: Instance) -> None:
    own.token_path.write_text("another")
    assert deployments(own, dashboard) == []
    nobody = Instance("id", "127.0.0.1", 1, 1, 1, {}, "/nowhere", SINCE)
    assert deployments(own, nobody) == []
    own.token_path.unlink()
    assert deployments(own, dashboard) == []


def test_events_of_before_and_lines_that_were_cut_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "scaling.jsonl"
    assert scale_events(log, SINCE) == []
    line = {"ts": "2026-02-01", "event": "scaled", "deployment": "guard", "before": 1, "after": 2, "why": "load"}
    lines = [json.dumps(line), json.dumps({**line, "ts": "2025-12-31"}), json.dumps(line)[:-9], "[]", ""]
    log.write_text("\n".join(lines))
    assert scale_events(log, SINCE) == [line]
