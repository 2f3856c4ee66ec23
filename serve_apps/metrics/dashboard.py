"""A Grafana dashboard over the rules: one row a question, as few panels as answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCHEMA = 39  # of Grafana 10.4 and later
WIDTH, HEIGHT, COLUMNS = 12, 8, 24


@dataclass(frozen=True)
class Panel:
    """One chart: what it draws (expression to legend) and in which unit, as Grafana calls it."""

    title: str
    lines: dict[str, str]
    unit: str = "short"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Does it answer?": (
        Panel("Requests a second", {"sum by (status) (plinth:requests:rate5m)": "{{status}}"}, "reqps"),
        Panel(
            "Failed, refused for want of room",
            {"plinth:errors:ratio5m": "5xx", "plinth:refused:ratio5m": "503"},
            "percentunit",
        ),
    ),
    "How fast?": (
        Panel(
            "A whole request, by tier",
            {f"plinth:request_ms:p{n}_5m": f"{{{{tier}}}} p{n}" for n in (50, 95, 99)},
            "ms",
        ),
        Panel(
            "Until the first text, by tier",
            {f"plinth:first_text_ms:p{n}_5m": f"{{{{tier}}}} p{n}" for n in (50, 95)},
            "ms",
        ),
        Panel("Stages, p95", {"max by (stage) (plinth:stage_ms:p95_5m)": "{{stage}}"}, "ms"),
        Panel("Answers given again, of those looked for", {"plinth:cache:hit_ratio30m": "hits"}, "percentunit"),
        Panel("Kept answers removed", {"sum by (reason) (rate(plinth_cache_removed_total[5m]))": "{{reason}}"}, "ops"),
        Panel("Tokens a second", {"plinth:tokens:rate5m": "{{tier}} {{kind}}"}),
    ),
    "How good?": (
        Panel("Grounded answers, by tier", {"plinth:answers:grounded_ratio30m": "{{tier}}"}, "percentunit"),
        Panel("Searches that found something", {"plinth:retrievals:hit_ratio30m": "hit"}, "percentunit"),
        Panel("Why answers were what they were", {"sum by (reason) (rate(plinth_answers_total[5m]))": "{{reason}}"}),
        Panel("Guard verdicts", {"plinth:verdicts:rate5m": "{{stage}} {{action}}"}),
    ),
    "What is there?": (
        Panel("Healthy replicas", {"ray_serve_deployment_replica_healthy": "{{deployment}}"}),
        Panel("In work", {"sum by (deployment) (ray_serve_replica_processing_queries)": "{{deployment}}"}),
        Panel(
            "Replicas added and taken away, an hour",
            {"sum by (deployment, direction) (rate(plinth_scale_events_total[1h])) * 3600": "{{deployment}}"},
        ),
        Panel("Waiting", {"sum by (deployment) (ray_serve_deployment_queued_queries)": "{{deployment}}"}),
        Panel("Age of the index", {"plinth_index_age_seconds": "age"}, "s"),
        Panel("Documents, chunks", {"plinth_index_documents": "documents", "plinth_index_chunks": "chunks"}),
        Panel(
            "Restarts of the head, nodes missing",
            {"plinth_head_restarts": "restarts", "plinth_metrics_nodes_missing": "missing"},
        ),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """What Grafana imports; it asks for the data source."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(_placed({"type": "row", "title": title, "collapsed": False, "panels": []}, len(panels), 0, y, 1))
        y += 1
        for place, panel in enumerate(row):
            x = place * WIDTH % COLUMNS
            panels.append(_placed(_chart(panel), len(panels), x, y + place * WIDTH // COLUMNS * HEIGHT, HEIGHT))
        y += -(-len(row) * WIDTH // COLUMNS) * HEIGHT
    return {
        "uid": "plinth",
        "title": "Plinth",
        "tags": ["plinth"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }


def _placed(panel: dict[str, Any], place: int, x: int, y: int, height: int) -> dict[str, Any]:
    width = COLUMNS if panel["type"] == "row" else WIDTH
    return {**panel, "id": place + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _chart(panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {"refId": chr(ord("A") + place), "datasource": source, "expr": expression, "legendFormat": legend}
        for place, (expression, legend) in enumerate(panel.lines.items())
    ]
    custom = {"lineWidth": 1, "fillOpacity": 5, "showPoints": "never"}
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }
