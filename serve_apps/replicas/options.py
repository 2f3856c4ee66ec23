"""How many replicas a deployment has and what each of them may use, as options of Ray Serve. Pure."""

from __future__ import annotations

from typing import Any

from cluster.core.sections.tiers import TierConfig


def fixed_options(replicas: int, cpus: float) -> dict[str, Any]:
    """Options of a deployment with a fixed number of replicas, each of which reserves so many CPUs."""
    return {
        "num_replicas": replicas,
        "max_ongoing_requests": 200,
        "health_check_period_s": 2,
        "graceful_shutdown_timeout_s": 10,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
        "ray_actor_options": {"num_cpus": cpus},
    }


def tier_options(tier: TierConfig, thread_cpus: float) -> dict[str, Any]:
    """Options of the deployment of a tier: its name, its replicas (scaled by Serve where there may be more), and what
    a replica reserves.

    Args:
        thread_cpus: CPUs reserved per thread where the tier itself says nothing (``serve.replica_cpus``).
    """
    wanted = dict(tier.resources)
    cpus = wanted.pop("CPU", thread_cpus * tier.threads)
    options = fixed_options(tier.min_replicas, cpus) | {"name": f"tier-{tier.name}"}
    options["max_ongoing_requests"] = tier.max_ongoing
    if gpus := wanted.pop("GPU", 0.0):
        options["ray_actor_options"]["num_gpus"] = gpus
    if wanted:
        options["ray_actor_options"]["resources"] = wanted
    if tier.max_replicas > tier.min_replicas:
        options["num_replicas"] = "auto"
        options["autoscaling_config"] = {
            "min_replicas": tier.min_replicas,
            "max_replicas": tier.max_replicas,
            "target_ongoing_requests": tier.target_ongoing,
        }
    return options
