"""The audit log of the running service: its writer is killed in the midst of requests, and nothing is missing."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
import pytest

from tests.live.conftest import Service, eventually

pytestmark = pytest.mark.live


def records(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.json("audit", "show", "--kind", "request", "--last", "0")["records"]
    return found


def test_a_killed_writer_loses_no_request(service: Service) -> None:
    sent: list[str] = []
    with httpx.Client(base_url=service.url, headers=service.bearer, trust_env=False, timeout=60) as client:
        for number in range(60):
            sent.append(client.get("/v1/models").headers["x-request-id"])
            if number == 20:
                (writer,) = eventually(lambda: service.pids("ray::AuditServer"))
                os.kill(writer, signal.SIGKILL)
        refused = httpx.get(f"{service.url}/v1/models", trust_env=False)
        assert refused.status_code == 401
        wanted = {*sent, refused.headers["x-request-id"]}
        eventually(lambda: wanted <= {one["request_id"] for one in records(service)}, 120, "all requests in the log")
        shown = client.get("/v1/plinth/audit").json()["data"]
        assert shown[-1]["kind"] == "audit_read"
        assert client.get(f"/v1/plinth/audit/{sent[0]}").json()["data"][0]["route"] == "/v1/models"
    answer = service.ask("How much oil does the engine take?")
    found = eventually(
        lambda: [one for one in records(service) if one["request_id"] == answer.headers["x-request-id"]], 60
    )
    assert found[0]["tier"] == answer.json()["plinth"]["tier"]
    assert found[0]["model_version"] == answer.json()["plinth"]["model_version"]
    assert "engine" not in str(found)
    verified = service.json("audit", "verify")
    assert verified["last"] >= len(wanted)
    assert verified["torn"] == 0
