"""Names of metrics and labels in one table, structured logs, request ids.

Logs are JSON lines below ``$PLINTH_HOME/logs/<component>.jsonl``: one line per event, control characters escaped, long
values cut. Never hand prompt texts, keys or tokens to ``log_event``. Labels come from closed sets only, so that no
client can grow the number of series.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import secrets
from dataclasses import dataclass
from typing import Any

from cluster.core.home import Home
from cluster.core.storage import utc_now
from cluster.core.trace import CURRENT

MAX_VALUE_CHARS = 2_000
COMPONENTS = ("gateway", "retriever", "guard", "quote", "model", "data", "index", "train", "registry", "cluster", "cli",
              "scaling", "ledger", "audit")  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """One metric: kind is counter|gauge|histogram; ``buckets`` (upper bounds, in the metric's unit) for histograms."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


LATENCY_MS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10000, 30000)

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("plinth_requests_total", "counter", "Requests by route and outcome.", ("route", "status")),
        Metric("plinth_request_ms", "histogram", "Whole request in milliseconds.", ("route", "tier"), LATENCY_MS),
        Metric(
            "plinth_stage_ms", "histogram", "One stage of a request in milliseconds.", ("stage", "tier"), LATENCY_MS
        ),
        Metric(
            "plinth_first_text_ms", "histogram", "Until the first text of an answer was free.", ("tier",), LATENCY_MS
        ),
        Metric("plinth_tokens_total", "counter", "Tokens of prompts and answers.", ("tier", "kind")),
        Metric("plinth_refused_total", "counter", "Requests that were not let in, by reason.", ("reason",)),
        Metric("plinth_auth_failures_total", "counter", "Requests of nobody that is known, by why.", ("reason",)),
        Metric("plinth_scraping_total", "counter", "Keys that were shown too many different documents."),
        Metric("plinth_verdicts_total", "counter", "Guard verdicts.", ("stage", "action", "rule")),
        Metric("plinth_retrieval_ms", "histogram", "One search, embedding the question included.", (), LATENCY_MS),
        Metric("plinth_retrievals_total", "counter", "Searches by what they found: hit, weak, empty.", ("outcome",)),
        Metric("plinth_index_age_seconds", "gauge", "Seconds since the serving index version was published."),
        Metric("plinth_index_build_seconds", "gauge", "Seconds that building or updating the serving index took."),
        Metric("plinth_index_documents", "gauge", "Documents of the serving index."),
        Metric("plinth_index_chunks", "gauge", "Chunks of the serving index."),
        Metric("plinth_head_restarts", "gauge", "Times that the head was put up again since `plinth up`."),
        Metric(
            "plinth_scale_events_total", "counter", "Changes of the number of replicas.", ("deployment", "direction")
        ),
        Metric("plinth_answers_total", "counter", "Answers by tier and grounding.", ("tier", "grounded", "reason")),
        Metric(
            "plinth_cache_requests_total",
            "counter",
            "Questions by what the kept answers were to them: hit, alike, miss, bypass.",
            ("outcome", "tier"),
        ),
        Metric("plinth_audit_lost_total", "counter", "Audit records that were lost.", ("reason",)),
        Metric("plinth_audit_waiting", "gauge", "Audit records that are not safe yet, of the gateway that has most."),
        Metric("plinth_audit_records", "gauge", "Number of the newest audit record."),
        Metric("plinth_audit_damaged", "gauge", "1 where the last check of the audit log found that it was changed."),
        Metric("plinth_cache_removed_total", "counter", "Kept answers that were removed.", ("reason",)),
        Metric("plinth_cache_entries", "gauge", "Kept answers of the gateway that has most."),
        Metric("plinth_cache_bytes", "gauge", "Bytes of the kept answers of the gateway that has most."),
    )
}


def new_request_id() -> str:
    """A request id made by the server; a client's own id is only ever logged beside it."""
    return f"req_{secrets.token_hex(12)}"


def log_event(component: str, event: str, **fields: Any) -> None:
    """Append one JSON line to the component's log. A write that fails is dropped by the logging
    module: a full disk must not fail a request.

    Raises:
        ValueError: ``component`` is not in COMPONENTS.
        EnvironmentFaultError: the logs folder cannot be made.
    """
    record = {"ts": utc_now(), "component": component, "event": event, "pid": os.getpid()}
    if trace := CURRENT.get():
        record["trace_id"] = trace.trace_id
    record.update({key: _bounded(value) for key, value in fields.items() if value is not None})
    _logger(component).info(json.dumps(record, ensure_ascii=True, default=str))


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return value[:MAX_VALUE_CHARS] + f"...({len(value)} characters)"
    return value


def _logger(component: str) -> logging.Logger:
    if component not in COMPONENTS:
        raise ValueError(f"unknown log component {component!r}: add it to telemetry.COMPONENTS")
    path = Home.from_env().logs / f"{component}.jsonl"
    logger = logging.getLogger(f"plinth.{component}.{path}")
    if not logger.handlers:
        # WatchedFileHandler reopens a file that `plinth up` rotated; O_APPEND keeps lines of several replicas whole.
        handler = logging.handlers.WatchedFileHandler(path, delay=True)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger
