"""Spans for an OpenTelemetry collector: OTLP over HTTP, in its JSON form. Off unless ``serve.otlp_url`` is set.

Spans are sent from a thread, a few at once; what a collector does not take is dropped and counted in the log: it must
never slow a request down. Nothing of what people asked or got is in them.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from cluster.core.telemetry import log_event
from cluster.core.trace import Trace

MOST_WAITING, MOST_AT_ONCE = 2048, 256
PAUSE_S, TIMEOUT_S, TELL_S = 1.0, 5.0, 60.0
SERVER, INTERNAL = 2, 1  # OTLP's kinds of spans
Attribute = str | int | float | bool


@dataclass(frozen=True)
class Span:
    """One piece of work; begin and end in seconds since 1970."""

    trace: Trace
    name: str
    began: float
    ended: float
    kind: int = INTERNAL
    failed: bool = False
    attributes: dict[str, Attribute] = field(default_factory=dict)


def otlp(spans: Iterable[Span]) -> dict[str, Any]:
    """The body of a request to a collector's ``/v1/traces`` (ExportTraceServiceRequest in protobuf's JSON mapping)."""
    resource = {"attributes": [_attribute("service.name", "plinth")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [_scope(spans)]}]}


def _scope(spans: Iterable[Span]) -> dict[str, Any]:
    return {
        "scope": {"name": "plinth"},
        "spans": [
            {
                "traceId": one.trace.trace_id,
                "spanId": one.trace.span_id,
                **({"parentSpanId": one.trace.parent_id} if one.trace.parent_id else {}),
                "name": one.name,
                "kind": one.kind,
                "startTimeUnixNano": str(int(one.began * 1e9)),
                "endTimeUnixNano": str(int(max(one.began, one.ended) * 1e9)),
                "attributes": [_attribute(key, value) for key, value in one.attributes.items()],
                "status": {"code": 2} if one.failed else {},
            }
            for one in spans
        ],
    }


def _attribute(key: str, value: Attribute) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    return {"key": key, "value": {"stringValue": value}}


class Spans:
    """Takes spans and sends them; without a URL it takes none.

    Args:
        url: of the collector, such as ``http://127.0.0.1:4318/v1/traces``; empty: off.
    """

    def __init__(self, url: str, pause_s: float = PAUSE_S) -> None:
        self._url, self._pause_s = url, pause_s
        self._waiting: queue.Queue[Span] = queue.Queue(MOST_WAITING)
        self._sender: threading.Thread | None = None
        self._lost, self._told = 0, 0.0

    def __bool__(self) -> bool:
        """Whether spans are wanted at all."""
        return bool(self._url)

    def add(self, span: Span) -> None:
        """Send it soon, if spans are wanted and those of its trace are."""
        if not self._url or not span.trace.sampled:
            return
        if self._sender is None or not self._sender.is_alive():
            self._sender = threading.Thread(target=self._send_on, name="spans", daemon=True)
            self._sender.start()
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._lost += 1

    def _send_on(self) -> None:
        secure = self._url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificates cost a second
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=secure) as client:
            while True:
                spans = [self._waiting.get()]
                time.sleep(self._pause_s)  # what comes in the meantime goes along
                while len(spans) < MOST_AT_ONCE and not self._waiting.empty():
                    spans.append(self._waiting.get())
                self._send(client.post, spans)

    def _send(self, post: Callable[..., httpx.Response], spans: list[Span]) -> None:
        try:
            reply = post(self._url, json=otlp(spans))
            why = "" if reply.is_success else f"status {reply.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = f"{type(error).__name__}: {error}"
        self._lost += len(spans) if why else 0
        if self._lost and time.monotonic() - self._told > TELL_S:
            log_event("gateway", "spans_lost", url=self._url, spans=self._lost, error=why or "too many at once")
            self._lost, self._told = 0, time.monotonic()
