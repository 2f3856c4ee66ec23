"""`plinth status` asks each part: up is what answers 200 now, the rest is down with what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home, write_private
from cluster.core.telemetry import log_event
from cluster.local_head import Instance
from cluster.probes import ask_each
from cluster.processes import free_ports

READY: dict[str, tuple[int, str]] = {
    path: (200, "{}") for path in ("/stats", "/readyz", "/api/gcs_healthz", "/api/local_raylet_healthz",
                                   "/api/authentication_mode", "/v1/models")
}  # fmt: skip


@pytest.fixture
def parts() -> Iterator[tuple[int, dict[str, tuple[int, str]]]]:
    """A server on loopback that stands for every part, and what it says to each path."""
    said = dict(READY)

    class Part(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = said.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Part)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], said
    server.shutdown()
    server.server_close()


def instance(port: int, stats: int | None = None) -> Instance:
    names = dict.fromkeys(("dashboard_agent", "haproxy_stats"), port)
    ports = {**names, "haproxy_stats": stats or port}
    return Instance("id", "127.0.0.1", port, port, port, ports, "/nowhere", "2026-01-01T00:00:00+00:00")


def test_everything_answers(parts: tuple[int, dict[str, tuple[int, str]]]) -> None:
    answers = ask_each(instance(parts[0]), lambda: ["small"])
    assert [a.component for a in answers if not a.up] == []
    assert len(answers) == 6


def test_what_does_not_answer_is_down_with_a_remedy(parts: tuple[int, dict[str, tuple[int, str]]]) -> None:
    port, said = parts
    said["/api/gcs_healthz"] = (503, "")
    said["/readyz"] = (503, json.dumps({"error": {"message": "no index is live"}}))

    def unreadable() -> list[str]:
        raise EnvironmentFaultError("the store is gone")

    down = {a.component: a for a in ask_each(instance(port, stats=free_ports(1)[0]), unreadable) if not a.up}
    assert set(down) == {"HAProxy", "service", "Ray GCS", "registry"}
    assert all(a.remedy for a in down.values())
    assert "no index is live" in down["service"].found
    assert "503" in down["Ray GCS"].found
    assert "the store is gone" in down["registry"].found


def test_status_shows_replicas_and_what_changed_their_number(
    home: Path, parts: tuple[int, dict[str, tuple[int, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, said = parts
    write_private(Home.from_env().run / "instance.json", json.dumps(vars(instance(port))))
    Home.from_env().ensure_token()
    said["/v1/models"] = (200, '{"data": []}')
    guard = {"target_num_replicas": 2, "replicas": [{"state": "RUNNING"}],
             "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": 3}}}  # fmt: skip
    body = {"applications": {"plinth": {"deployments": {"guard": guard}}}}
    said["/api/serve/applications/"] = (200, json.dumps(body))
    log_event("scaling", "scaled", deployment="guard", before=1, after=2, why="load")
    assert main(["status", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["deployments"]
    assert found.pop("last").items() >= {"before": 1, "after": 2, "why": "load"}.items()
    assert found == {
        "name": "guard",
        "running": 1,
        "target": 2,
        "min": 1,
        "max": 3,
        "ups": 1,
        "downs": 0,
        "problem": "",
    }
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "1 to 3" in shown
    assert "1 to 2, load" in shown
    said["/api/serve/applications/"] = (401, "")
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deployments"] == []


def test_status_exits_5_when_something_is_down(
    home: Path, parts: tuple[int, dict[str, tuple[int, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, said = parts
    write_private(Home.from_env().run / "instance.json", json.dumps(vars(instance(port))))
    said["/v1/models"] = (200, '{"data": [{"id": "quote", "plinth": {"version": "v1"}}]}')
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["service"] == "ready"
    assert found["models"] == {"quote": "v1"}
    said["/readyz"] = (500, "<html>")
    assert main(["status"]) == 5
    shown = capsys.readouterr().out
    assert "not yet" in shown, "nothing was deployed on this head so far"
    assert "plinth up" in shown
    assert main(["status", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["service"] == "starting"
    write_private(Home.from_env().run / "deployed.json", json.dumps({"instance": instance(port).id, "graph": ""}))
    assert main(["status"]) == 5
    shown = capsys.readouterr().out
    assert "down" in shown
    assert "not yet" not in shown
    assert "plinth up" in shown
    (Home.from_env().run / "deployed.json").unlink()
    said["/api/gcs_healthz"] = (503, "")
    assert main(["status", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["service"] == "down", "a head that is ill is no head that starts"
