"""One Prometheus page out of many: exporters' pages read, the same series of all processes and nodes added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

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
GROWS = ("counter", "histogram")
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})  # others are made up by clients
_WANTED = (OURS, *SERVES)
_BEGINS = tuple(f"{comment}{name}" for name in _WANTED for comment in ("", "# HELP ", "# TYPE "))


@dataclass(frozen=True)
class Family:
    """One metric: its name here, without Ray's prefix where it is ours, its kind and its help."""

    name: str
    kind: str
    help: str


@dataclass(frozen=True)
class Reading:
    """One sample of one exporter: ``series`` as it stands on our page, ``exporter`` who told it."""

    family: Family
    series: str
    exporter: str
    value: float


def readings(page: str) -> Iterator[Reading]:
    """The samples of an exporter's page that belong on ours. Of the many others no line is parsed."""
    lines = [line for line in page.split("\n") if line.startswith(_BEGINS)]
    for found in text_string_to_metric_families("\n".join(lines) + "\n"):
        if not found.name.startswith(_WANTED):
            continue
        ours = found.name.startswith(OURS)
        family = Family(found.name.removeprefix("ray_") if ours else found.name, found.type, found.documentation)
        for sample in found.samples:
            if sample.name.endswith("_created"):
                continue
            name = sample.name.removeprefix("ray_") if ours else sample.name
            shown = {key: text for key, text in sample.labels.items() if key not in EXPORTER_LABELS}
            if shown.get("method", "GET") not in METHODS:
                shown["method"] = "other"
            told = {key: text for key, text in sample.labels.items() if key in EXPORTER_LABELS}
            yield Reading(family, _series(name, shown), _series("", told), sample.value)


def gauges(found: Iterable[Reading]) -> dict[str, float]:
    """What is so now, by series: the sum over all exporters; of our own the largest, as replicas tell the same."""
    values: dict[str, float] = {}
    for one in found:
        if one.family.kind in GROWS:
            continue
        known = values.get(one.series)
        if known is None:
            values[one.series] = one.value
        elif one.family.name.startswith("plinth_"):
            values[one.series] = max(known, one.value)
        else:
            values[one.series] = known + one.value
    return values


def page(values: Mapping[str, float], families: Mapping[str, Family], missing: int) -> str:
    """Prometheus text.

    Args:
        values: by series.
        families: by name, of every series.
        missing: nodes that did not answer; exported as ``plinth_metrics_nodes_missing``.
    """
    lines: list[str] = []
    last = None
    owned = sorted((family_of(series, families).name, series) for series in values)
    for name, series in owned:
        if name != last:
            family, last = families[name], name
            exposed = f"{name}_total" if family.kind == "counter" else name
            lines += [f"# HELP {exposed} {_one_line(family.help)}", f"# TYPE {exposed} {family.kind}"]
        lines.append(f"{series} {values[series]}")
    lines += [
        "# HELP plinth_metrics_nodes_missing Nodes whose metrics agent did not answer.",
        "# TYPE plinth_metrics_nodes_missing gauge",
        f"plinth_metrics_nodes_missing {missing}",
    ]
    return "\n".join(lines) + "\n"


def by_deployment(page: str, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Deployment to the values there of some metrics that have such a label, each summed up over its other labels."""
    lines = [line for line in page.split("\n") if line.startswith(tuple(names))]
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if deployment := sample.labels.get("deployment"):
                values = found.setdefault(deployment, {})
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return found


def family_of(series: str, families: Mapping[str, Family]) -> Family:
    """The family that a series belongs to, whose name its own begins with.

    Raises:
        KeyError: there is none.
    """
    name = series.partition("{")[0]
    for ending in ("", "_total", "_bucket", "_count", "_sum"):
        if name.endswith(ending) and (found := families.get(name.removesuffix(ending))) is not None:
            return found
    raise KeyError(series)


def _series(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    return _one_line(text).replace('"', '\\"')
