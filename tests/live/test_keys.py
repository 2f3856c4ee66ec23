"""Two people with keys of their own, on the running service: what they may, what they used, how it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.conftest import Service, eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.ci]
QUESTION = {"model": "auto", "messages": [{"role": "user", "content": "How much oil does the engine take?"}]}


def ask(service: Service, key: str, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(trust_env=False, timeout=60, headers=headers) as client:
        return (
            client.post(service.url + path, json={**QUESTION, **more})
            if "chat" in path
            else client.get(service.url + path)
        )


@pytest.fixture(scope="module")
def ann(service: Service) -> dict[str, Any]:
    return dict(
        service.json("keys", "create", "ann", "--tenant", "finance", "--scope", "chat", "--requests-per-minute", "3")
    )


@pytest.fixture(scope="module")
def bob(service: Service) -> dict[str, Any]:
    return dict(service.json("keys", "create", "bob", "--tenant", "legal", "--scope", "chat,search"))


def test_each_may_what_the_key_says_and_pays_alone(service: Service, ann: dict[str, Any], bob: dict[str, Any]) -> None:
    replies = [ask(service, ann["key"]) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429, 429]
    assert "6.5 litres" in replies[0].json()["choices"][0]["message"]["content"]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "3"
    assert replies[3].json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(replies[3].headers["retry-after"]) <= 75
    assert ask(service, ann["key"], "/metrics").status_code == 403
    assert ask(service, bob["key"]).status_code == 200, "another's limit is nobody else's"

    def booked() -> dict[str, int]:
        rows = service.json("keys", "usage")["usage"]
        return {row["name"]: row["requests"] for row in rows if row["name"] in ("ann", "bob")}

    eventually(lambda: booked() == {"ann": 3, "bob": 1}, 20, "the books")
    told = ask(service, bob["key"], "/v1/usage").json()["data"]
    assert {row["key_id"] for row in told} == {bob["key_id"]}, "nobody reads another's books"


def test_a_tenants_limit_holds_for_all_its_keys(service: Service, bob: dict[str, Any]) -> None:
    service.plinth("keys", "limits", "legal", "--tokens-per-day", "1")
    eventually(lambda: ask(service, bob["key"]).status_code == 429, 20, "the limit")
    reply = ask(service, bob["key"])
    assert reply.json()["error"]["code"] in ("insufficient_quota", "rate_limit_exceeded")
    assert reply.headers["x-should-retry"] == "false"
    service.plinth("keys", "limits", "legal", "--none")
    eventually(lambda: ask(service, bob["key"]).status_code == 200, 20, "the limit's end")


def test_a_revoked_key_ends_within_five_seconds(service: Service, bob: dict[str, Any]) -> None:
    assert ask(service, bob["key"], "/v1/models").status_code == 200
    service.plinth("keys", "revoke", "bob")
    began = time.monotonic()
    eventually(lambda: ask(service, bob["key"], "/v1/models").status_code == 401, 5, "the end of the key")
    assert time.monotonic() - began < 5


def files_of(service: Service) -> Iterator[Path]:
    for root in (service.home, Path(service.instance.temp_dir)):
        for folder, _, names in os.walk(root):
            yield from (Path(folder) / name for name in names)


def test_no_secret_is_anywhere_but_in_its_own_file(service: Service, ann: dict[str, Any], bob: dict[str, Any]) -> None:
    """Logs, metrics, databases, Ray's session, process lists, environments: after all of the above."""
    local = service.key
    secrets = [one.split("_", 2)[2].encode() for one in (ann["key"], bob["key"], local)]
    looked_at = 0
    for path in files_of(service):
        if path == service.home / "api_key" or not path.is_file():
            continue
        looked_at += 1
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret in data], path
    assert looked_at > 50
    metrics = httpx.get(f"{service.url}/metrics", headers=service.bearer, trust_env=False, timeout=30).content
    assert not [secret for secret in secrets if secret in metrics]
    for process in service.instance.processes():
        for name in ("cmdline", "environ"):
            try:
                data = Path(f"/proc/{process.pid}/{name}").read_bytes()
            except OSError:  # it has just ended
                continue
            assert not [secret for secret in secrets if secret in data], process.command
