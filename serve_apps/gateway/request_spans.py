"""A finished request as spans: one for the whole, one for each of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator

from serve_apps.gateway.request_log import RequestRecord
from serve_apps.metrics.spans import SERVER, Attribute, Span, Spans


def request_spans(record: RequestRecord) -> Iterator[Span]:
    """The whole request, then its stages, each from its first moment to its last (``busy_ms``: what it took of that,
    as a stage that is entered again and again, for every window of a stream, does other things in between)."""
    shift = time.time() - time.perf_counter()  # from the record's clock to the collector's
    told: dict[str, Attribute | None] = {
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.status,
        "plinth.request_id": record.request_id,
        "plinth.tier": record.tier,
        "plinth.routed": record.routed,
        "plinth.grounded": record.grounded,
        "plinth.index_version": record.index_version,
        "plinth.prompt_tokens": record.prompt_tokens,
        "plinth.completion_tokens": record.completion_tokens,
        "error.type": record.code,
    }
    attributes = {key: value for key, value in told.items() if value is not None}
    began, name = record.begun + shift, f"{record.method} {record.route}"
    yield Span(record.trace, name, began, time.time(), SERVER, record.status >= 500, attributes)
    for stage, (first, last) in record.intervals.items():
        busy = {"busy_ms": round(record.stages[stage], 3)}
        yield Span(record.trace.within(), stage, first + shift, last + shift, attributes=dict(busy))


def send_spans(spans: Spans, record: RequestRecord) -> None:
    """Send a request's spans, where they are wanted."""
    if spans:
        for span in request_spans(record):
            spans.add(span)
