"""What the audit log hears of requests, from the HTTP application down to a real log on disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from actors.audit.audit_log import AuditLog
from actors.audit.client import AuditClient, Send
from actors.audit.entries import Entry
from actors.audit.reading import Wanted, newest, records
from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.identity import Principal
from cluster.core.sections.audit import AuditSection
from data_jobs.pii import redact
from serve_apps.gateway.audit_trail import AuditTrail, masked
from tests.serve_apps.service import CHAT, EMBEDDER, QUESTION, Service, eventually

SECRET = "AKIAIOSFODNN7EXAMPLF"  # a key of AWS, by its form
MAIL = "ann.other@acme-corp.com"


class Audited:
    """A service over fakes whose audit log is a real one."""

    def __init__(self, tmp_path: Path, **section: Any) -> None:
        self.log, self.fails, self.home = AuditLog.of(Home(tmp_path)), False, tmp_path
        settings = AuditSection(**section)
        trail = AuditTrail(
            settings, AuditClient(self._connect, lambda count, reason: None), masked(redact), lambda: 0.5, self._show
        )
        self.service = Service(trail=trail, also=trail.ended)

    async def _connect(self) -> Send:
        return self._send

    async def _send(self, entries: Sequence[Entry]) -> dict[str, Any]:
        if self.fails:
            raise EnvironmentFaultError("no space left on device")
        return {"last": self.log.append(entries) if entries else 0, "damaged": ""}

    async def _show(self, wanted: Wanted, count: int, by: str) -> list[dict[str, Any]]:
        if self.fails:
            raise EnvironmentFaultError("no space left on device")
        self.log.append([Entry.of("audit_read", by=by, of=wanted.told())])
        return newest(self.log, wanted, count)

    def client(self) -> TestClient:
        return self.service.client()

    def written(self, kind: str) -> list[dict[str, Any]]:
        return [one.payload for one in records(self.log) if one.payload and one.payload["kind"] == kind]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))


def test_the_end_of_a_request_is_written_down_without_a_text(tmp_path: Path) -> None:
    audited = Audited(tmp_path)
    with audited.client() as client:
        reply = client.post("/v1/chat/completions", json=CHAT)
        client.post("/v1/chat/completions", json={**CHAT, "model": SECRET})
        client.get("/healthz")
        eventually(lambda: len(audited.written("request")) == 2)
    answered, refused = audited.written("request")
    assert answered["request_id"] == reply.headers["x-request-id"]
    assert (answered["key_id"], answered["tenant"]) == ("local", "default")
    assert (answered["route"], answered["status"], answered["method"]) == ("/v1/chat/completions", 200, "POST")
    assert (answered["model"], answered["tier"]) == ("auto", "quote")
    assert answered["verdicts"]
    assert answered["prompt_tokens"] > 0
    assert answered["ms"] > 0
    assert answered["index_version"] == reply.json()["plinth"]["index_version"]
    assert (refused["status"], refused["code"]) == (404, "model_not_found")
    everything = json.dumps([one.payload for one in records(audited.log)])
    for text in (QUESTION, "directory tree", SECRET):
        assert text not in everything


def test_without_the_log_nothing_is_answered_where_it_is_required(tmp_path: Path) -> None:
    audited = Audited(tmp_path, required=True)
    with audited.client() as client:
        reply = client.post("/v1/chat/completions", json=CHAT)
        assert reply.status_code == 200
        begun = audited.written("begun")
        assert [one["request_id"] for one in begun] == [reply.headers["x-request-id"]]
        audited.fails = True
        for path, body in (
            ("/v1/chat/completions", CHAT),
            ("/v1/chat/completions", {**CHAT, "stream": True}),
            ("/v1/completions", {"model": "quote", "prompt": QUESTION}),
            ("/v1/responses", {"model": "auto", "input": QUESTION}),
            ("/v1/embeddings", {"model": EMBEDDER, "input": QUESTION}),
            ("/v1/search", {"query": QUESTION}),
        ):
            refused = client.post(path, json=body)
            assert refused.status_code == 503, path
            assert refused.json()["error"]["message"].startswith("the audit log cannot be written"), path
        assert client.get("/v1/models").status_code == 503
        assert client.get("/healthz").status_code == 200
        audited.fails = False
        eventually(lambda: client.post("/v1/chat/completions", json=CHAT).status_code == 200, 20)
        eventually(lambda: len(audited.written("request")) >= 9)  # the refused ones came through later


def test_a_log_that_fails_stops_nothing_where_it_is_not_required(tmp_path: Path) -> None:
    audited = Audited(tmp_path)
    audited.fails = True
    with audited.client() as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert audited.written("begun") == []
        audited.fails = False
        eventually(lambda: len(audited.written("request")) == 1)


def test_samples_are_masked_and_leave_out_who_wants_nothing_stored(tmp_path: Path) -> None:
    audited = Audited(tmp_path, sample=0.6)
    question = f"How do I copy a directory tree? Ask {MAIL} or use {SECRET}"
    asked = {"model": "auto", "messages": [{"role": "user", "content": question}]}
    with audited.client() as client:
        answer = client.post("/v1/chat/completions", json=asked)
        client.post("/v1/chat/completions", json={**asked, "store": False})
        client.post("/v1/responses", json={"model": "auto", "input": QUESTION, "store": False, "stream": True})
        eventually(lambda: len(audited.written("request")) == 3 and bool(audited.written("sample")))
    (sample,) = audited.written("sample")
    assert sample["request_id"] == answer.headers["x-request-id"]
    assert sample["turns"][0]["text"].startswith("How do I copy a directory tree?")
    assert MAIL not in json.dumps(sample)
    assert SECRET not in json.dumps(sample)
    assert sample["answer"] == answer.json()["choices"][0]["message"]["content"]
    cited = {citation["document"] for citation in answer.json()["plinth"]["citations"]}
    assert cited <= {document for document, _ in sample["documents"]}
    assert cited
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert not any(text.encode() in path.read_bytes() for text in (SECRET, MAIL, "directory tree")), path


def test_no_sample_where_the_lot_says_no(tmp_path: Path) -> None:
    audited = Audited(tmp_path, sample=0.5)
    with audited.client() as client:
        client.post("/v1/chat/completions", json=CHAT)
        eventually(lambda: len(audited.written("request")) == 1)
    assert audited.written("sample") == []


def test_the_log_is_read_over_http_and_that_is_written_down(tmp_path: Path) -> None:
    audited = Audited(tmp_path)
    audited.log.append([Entry.of("request", "another", request_id="req_1")])
    with audited.client() as client:
        shown = client.get("/v1/plinth/audit").json()["data"]
        assert [(row["n"], row["kind"]) for row in shown] == [(1, "request"), (2, "audit_read")]
        assert shown[1]["by"] == "key local"
        one = client.get("/v1/plinth/audit/req_1").json()["data"]
        assert [row["tenant"] for row in one] == ["another"]
        audited.fails = True
        assert client.get("/v1/plinth/audit").status_code == 503


def test_who_keeps_no_keys_sees_the_records_of_their_tenant(tmp_path: Path) -> None:
    audited = Audited(tmp_path)
    audited.log.append([Entry.of("request", name, request_id="req_1") for name in ("ann", "bob", "")])
    reader = Principal("k1", tenant="bob", scopes=frozenset({"audit"}))
    trail = audited.service.trail
    assert trail is not None
    assert [row["tenant"] for row in asyncio.run(trail.read(reader))] == ["bob"]
    assert asyncio.run(trail.read(Principal("k2", tenant="eve", scopes=frozenset({"audit"})), "req_1")) == []
