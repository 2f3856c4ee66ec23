"""The shipped configurations, as functions: a laptop, one big node, an autoscaling cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.core.config import PlinthConfig, ServeSection, configured
from cluster.core.errors import UsageError


def laptop() -> PlinthConfig:
    """One machine, no accelerator, loopback only: what ``make quickstart`` runs."""
    return PlinthConfig()


def node() -> PlinthConfig:
    """One server: two replicas of everything on the request path, so that no single crash is seen."""
    return PlinthConfig(
        serve=ServeSection(gateway_replicas=2, retriever_replicas=2, guard_replicas=2, quote_replicas=2)
    )


def cluster() -> PlinthConfig:
    """An autoscaling cluster: replicas reserve CPUs, so that Ray adds nodes for them."""
    return PlinthConfig(
        serve=ServeSection(
            gateway_replicas=2, retriever_replicas=2, guard_replicas=2, quote_replicas=2, replica_cpus=1.0
        )
    )


PRESETS: dict[str, Callable[[], PlinthConfig]] = {"laptop": laptop, "node": node, "cluster": cluster}


def preset(name: str, overrides: Iterable[str] = ()) -> PlinthConfig:
    """Build a preset and apply ``section.field=value`` overrides.

    Raises:
        UsageError: unknown preset or override.
    """
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return configured(PRESETS[name](), overrides)
