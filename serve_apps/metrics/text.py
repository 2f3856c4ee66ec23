"""One Prometheus page out of many: the same series of all processes and nodes added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

# Who exported a sample says nothing about the service, and would make a new series of every replica that ever lived.
EXPORTER_LABELS = frozenset(
    {"WorkerId", "SessionName", "Version", "NodeAddress", "Component", "JobId", "ReporterId", "RayletId", "NodeId",
     "otel_scope_name", "otel_scope_version", "otel_scope_schema_url", "replica", "ReplicaId"}
)  # fmt: skip
OURS = "ray_plinth_"
SERVES = (
    "ray_serve_num_http_requests",
    "ray_serve_num_http_error_requests",
    "ray_serve_deployment_request_counter",
    "ray_serve_deployment_error_counter",
    "ray_serve_deployment_replica_starts",
    "ray_serve_deployment_replica_healthy",
    "ray_serve_replica_processing_queries",
    "ray_serve_deployment_queued_queries",
)


def combined(pages: Iterable[str], missing: int) -> str:
    """Sum counters, histograms and queue gauges over all exporters; plinth gauges take their largest value.

    Args:
        pages: Prometheus texts, one of each node's agent.
        missing: nodes that did not answer; exported as ``plinth_metrics_nodes_missing``.

    Returns:
        Prometheus text; our own metrics without Ray's ``ray_`` prefix.
    """
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    described: dict[str, tuple[str, str]] = {}
    owner: dict[str, str] = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            if not family.name.startswith((OURS, *SERVES)):
                continue
            name = family.name.removeprefix("ray_") if family.name.startswith(OURS) else family.name
            described[name] = (family.type, family.documentation)
            largest = family.type == "gauge" and family.name.startswith(OURS)
            for sample in family.samples:
                shown = sample.name.removeprefix("ray_") if family.name.startswith(OURS) else sample.name
                labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k not in EXPORTER_LABELS))
                known = values.get((shown, labels))
                owner[shown] = name
                value = sample.value
                values[shown, labels] = value if known is None else max(known, value) if largest else known + value
    return _page(values, described, owner, missing)


def _page(
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float],
    described: dict[str, tuple[str, str]],
    owner: dict[str, str],
    missing: int,
) -> str:
    lines: list[str] = []
    last = ""
    for (sample, labels), value in sorted(values.items(), key=lambda item: (owner[item[0][0]], item[0])):
        family = owner[sample]
        if family != last:
            kind, text = described[family]
            exposed = f"{family}_total" if kind == "counter" else family
            lines += [f"# HELP {exposed} {text}", f"# TYPE {exposed} {kind}"]
            last = family
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        lines.append(f"{sample}{{{inside}}} {value}" if inside else f"{sample} {value}")
    lines += ["# TYPE plinth_metrics_nodes_missing gauge", f"plinth_metrics_nodes_missing {missing}"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
