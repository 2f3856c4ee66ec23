"""Recording metrics through Ray, whose agents export them (R)."""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from cluster.core.telemetry import METRICS


class RayRecorder:
    """``Recorder`` over ray.util.metrics; each metric is registered on first use."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def record(self, metric: str, value: float, labels: dict[str, str]) -> None:
        """Count, set or observe one value of a metric from ``telemetry.METRICS``."""
        if metric not in self._made:
            spec = METRICS[metric]
            # Ray's exporter appends _total to counters by itself only when the name lacks it.
            if spec.kind == "counter":
                self._made[metric] = Counter(metric, spec.help, spec.labels)
            elif spec.kind == "gauge":
                self._made[metric] = Gauge(metric, spec.help, spec.labels)
            else:
                self._made[metric] = Histogram(metric, spec.help, list(spec.buckets), spec.labels)
        made = self._made[metric]
        if isinstance(made, Counter):
            made.inc(value, labels)
        elif isinstance(made, Gauge):
            made.set(value, labels)
        else:
            made.observe(value, labels)
