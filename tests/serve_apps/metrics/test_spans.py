"""Traces: the client's id goes through every hop into log, reply and spans, which a collector receives."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.core.home import Home
from cluster.core.telemetry import log_event
from cluster.core.trace import CURRENT, Trace
from serve_apps.errors import UnavailableError
from serve_apps.gateway.request_spans import send_spans
from serve_apps.metrics.spans import MOST_WAITING, Span, Spans, otlp
from serve_apps.replicas.traced import traced
from tests.fakes import ScriptedTier
from tests.serve_apps.service import CHAT, Service, eventually

ID, THEIRS = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = {"traceparent": f"00-{ID}-{THEIRS}-01"}


class Collector(BaseHTTPRequestHandler):
    """Keeps what is sent to it; answers ``status``."""

    bodies: list[dict[str, Any]]
    status = 200

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, type[Collector]]]:
    kind = type("OneCollector", (Collector,), {"bodies": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", kind
    server.shutdown()
    server.server_close()


def spans_in(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        span
        for body in bodies
        for resource in body["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def test_the_clients_trace_is_in_reply_and_log() -> None:
    service = Service()
    with service.client() as client:
        reply = client.post("/v1/chat/completions", json=CHAT, headers=HEADER)
        ours = Trace.read(reply.headers["traceresponse"])
        assert ours is not None
        assert ours.trace_id == ID
        assert ours.span_id != THEIRS
        assert service.log[-1]["trace_id"] == ID
        fresh = client.post("/v1/chat/completions", json=CHAT, headers={"traceparent": "00-made-up-01"})
        assert service.log[-1]["trace_id"] in fresh.headers["traceresponse"]
        assert service.log[-1]["trace_id"] != ID
        twice = client.get("/healthz", headers=[("traceparent", HEADER["traceparent"])] * 2)
        assert ID not in twice.headers["traceresponse"]
        refused = client.get("/nowhere", headers=HEADER)
        assert ID in refused.headers["traceresponse"]


def test_every_hop_is_made_within_the_trace() -> None:
    """What handles carry into another process is what is current when guard, retriever and tier are called."""
    seen: dict[str, str] = {}
    service = Service()

    def noting(name: str, method: Any) -> Any:
        def call(*args: Any) -> Any:
            trace = CURRENT.get()
            seen[name] = trace.trace_id if trace else ""
            return method(*args)

        return call

    for part, names in ((service.guard, ("check_input", "check_output")), (service.retriever, ("search",))):
        for name in names:
            setattr(part, name, noting(name, getattr(part, name)))
    service.tier.stream = noting("stream", service.tier.stream)
    with service.client() as client:
        client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=HEADER)
        assert seen == dict.fromkeys(("check_input", "search", "stream", "check_output"), ID)
        seen.clear()
        client.post("/v1/chat/completions", json=CHAT)
    assert len(set(seen.values())) == 1
    assert ID not in seen.values()


@traced("part", "work", "speak")
class Part:
    """A replica."""

    def __init__(self, spans: Any = None) -> None:
        self.spans = spans

    async def work(self, text: str) -> str:
        if text == "fail":
            raise UnavailableError("it failed")
        trace = CURRENT.get()
        return trace.trace_id if trace else ""

    async def speak(self, count: int) -> AsyncGenerator[str, None]:
        for _ in range(count):
            trace = CURRENT.get()
            yield trace.trace_id if trace else ""


class Kept(list[Span]):
    """Spans that are kept."""

    add = list.append


def test_a_replica_takes_the_trace_over() -> None:
    kept = Kept()

    async def heard(part: Part, **carried: str) -> list[str]:
        return [await part.work("x", **carried), *[text async for text in part.speak(2, **carried)]]

    assert asyncio.run(heard(Part())) == ["", "", ""]
    assert asyncio.run(heard(Part(), **HEADER)) == [ID] * 3
    kept.append(Span(Trace.new(), "so that it is not empty", 0, 0))
    asyncio.run(heard(Part(kept), **HEADER))
    with pytest.raises(UnavailableError):
        asyncio.run(Part(kept).work("fail", **HEADER))
    names = [(span.name, span.trace.trace_id, span.trace.parent_id, span.failed) for span in kept[1:]]
    assert names == [
        ("part.work", ID, THEIRS, False), ("part.speak", ID, THEIRS, False), ("part.work", ID, THEIRS, True),
    ]  # fmt: skip


def test_logs_of_a_replica_name_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))

    @traced("part", "work")
    class Logging:
        async def work(self) -> None:
            log_event("guard", "worked")

    asyncio.run(Logging().work(**HEADER))
    assert json.loads((Home.from_env().logs / "guard.jsonl").read_text())["trace_id"] == ID


def test_a_collector_receives_a_request_and_its_stages(collector: tuple[str, type[Collector]]) -> None:
    url, received = collector
    service = Service(also=partial(send_spans, Spans(url, pause_s=0.01)))
    with service.client() as client:
        reply = client.post("/v1/chat/completions", json=CHAT, headers=HEADER)
        client.get("/healthz", headers=HEADER)
    eventually(lambda: len(spans_in(received.bodies)) >= 8, 30)
    found = spans_in(received.bodies)
    (root,) = [span for span in found if span["kind"] == 2]
    assert root["name"] == "POST /v1/chat/completions"
    assert (root["traceId"], root["parentSpanId"]) == (ID, THEIRS)
    assert root["spanId"] in reply.headers["traceresponse"]
    stages = {span["name"]: span for span in found if span is not root}
    assert set(stages) == {"plan", "turn", "guard_in", "retriever", "route", "tier", "guard_out"}
    assert {span["parentSpanId"] for span in stages.values()} == {root["spanId"]}
    begin, end = int(root["startTimeUnixNano"]), int(root["endTimeUnixNano"])
    for span in stages.values():
        assert begin - 1e6 <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= end + 1e6
    told = {entry["key"]: next(iter(entry["value"].values())) for entry in root["attributes"]}
    assert told["http.response.status_code"] == "200"
    assert told["plinth.tier"] == "quote"
    assert "copy" not in json.dumps(received.bodies), "nothing of what was asked"


def test_it_is_what_the_protocol_says() -> None:
    """Held against the protocol's own message. Its JSON form has ids in hexadecimal, protobuf's reader base64."""
    import base64

    from google.protobuf import json_format

    whole = Trace(ID, THEIRS)
    attributes: dict[str, Any] = {"a": "text", "b": 7, "c": 0.5, "d": True}
    body = otlp(
        [Span(whole, "whole", 1.5, 2.5), Span(whole.within(), "part", 2.0, 1.0, failed=True, attributes=attributes)]
    )
    for span in spans_in([body]):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    message = json_format.ParseDict(body, ExportTraceServiceRequest())
    first, second = message.resource_spans[0].scope_spans[0].spans
    assert (first.start_time_unix_nano, first.end_time_unix_nano, first.parent_span_id) == (
        1_500_000_000,
        2_500_000_000,
        b"",
    )
    assert (second.parent_span_id.hex(), second.status.code) == (THEIRS, 2)
    assert second.end_time_unix_nano == second.start_time_unix_nano
    assert [entry.value.WhichOneof("value") for entry in second.attributes] == [
        "string_value", "int_value", "double_value", "bool_value",
    ]  # fmt: skip


def test_what_nobody_wants_is_not_sent(collector: tuple[str, type[Collector]]) -> None:
    url, received = collector
    assert not Spans("")
    Spans("").add(Span(Trace.new(), "x", 0, 1))
    spans = Spans(url, pause_s=0.01)
    unwanted = Trace.read(f"00-{ID}-{THEIRS}-00")
    assert unwanted is not None
    spans.add(Span(unwanted.within(), "unwanted", 0, 1))
    spans.add(Span(Trace.new(), "wanted", 0, 1))
    eventually(lambda: bool(received.bodies), 30)
    assert [span["name"] for span in spans_in(received.bodies)] == ["wanted"]


@pytest.mark.parametrize("status", [500, 0])
def test_a_collector_that_fails_costs_spans_and_nothing_else(
    collector: tuple[str, type[Collector]], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    url, received = collector
    received.status = status or 200
    spans = Spans(url if status else "http://127.0.0.1:1/v1/traces", pause_s=0.0)
    for _ in range(3 * MOST_WAITING):
        spans.add(Span(Trace.new(), "x", 0, 1))  # never blocks
    log = Home.from_env().logs / "gateway.jsonl"
    eventually(log.exists, 30)
    line = json.loads(log.read_text().splitlines()[0])
    assert (line["event"], line["url"]) == ("spans_lost", spans._url)
    assert line["spans"] > 0


def test_a_stage_that_is_entered_again_is_one_span() -> None:
    service = Service(tier=ScriptedTier(["word "] * 200), also=lambda record: kept.append(record))
    kept: list[Any] = []
    with service.client() as client:
        client.post("/v1/chat/completions", json=CHAT)
    first, last = kept[0].intervals["tier"]
    assert 0 < kept[0].stages["tier"] <= (last - first) * 1000 + 0.001
