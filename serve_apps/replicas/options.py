"""How many replicas a deployment has and what each of them may use, as options of Ray Serve. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.sections.scaling import Replicas
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.tiers import VLLM, TierConfig
from serve_apps.scaling.load import REQUESTS, TEXTS, TOKENS

TOLD_S = 1.0  # how often replicas and those who call them tell Serve's controller of their load
LOOK_BACK_S = 2.0  # over which it takes means
POLICY = "serve_apps.scaling:ReplicaScaling"
HEAD = {"node:__internal_head__": 0.001}  # a resource that only the head node has
AFFINITY = {"request_router_class": "serve_apps.affinity_router:AffinityRouter"}
DRAIN_S = 5.0  # beyond the longest request, before a replica that is taken away is ended


def graph_options(config: PlinthConfig, tiers: Sequence[TierConfig]) -> dict[str, dict[str, Any]]:
    """Options of every deployment of the graph, by its name."""
    section, cpus = config.serve, config.serve.replica_cpus
    found = {
        "guard": replica_options(section, section.guard_replicas, cpus),
        "retriever": replica_options(section, section.retriever_replicas, cpus * section.embed_threads, TEXTS),
        "gateway": replica_options(section, section.gateway_replicas, cpus),
    }
    # HTTP stays on the head's loopback, so that is where gateways run: HAProxy reaches those of its own node. The head
    # of a cluster takes no other work, so they reserve nothing there.
    if not config.cluster.single_node:
        found["gateway"]["ray_actor_options"] = {"num_cpus": 0, "resources": HEAD}
    return found | {deployment_name(tier): tier_options(section, tier) for tier in tiers}


def deployment_name(tier: TierConfig) -> str:
    """What Serve calls the deployment of a tier."""
    return f"tier-{tier.name}"


def replica_options(section: ServeSection, replicas: Replicas, cpus: float, counts: str = REQUESTS) -> dict[str, Any]:
    """Options of a deployment: its replicas, and the CPUs that each of them reserves.

    Args:
        counts: what ``replicas.target`` is an amount of: requests, which Serve counts, or what its replicas tell of.
    """
    return _options(section, replicas.min, replicas.max, {counts: replicas.target}, cpus)


def tier_options(section: ServeSection, tier: TierConfig) -> dict[str, Any]:
    """Options of the deployment of a tier: its name, its replicas, and what each of them reserves: a CPU share by
    thread (``serve.replica_cpus``) where the tier itself says nothing."""
    wanted = dict(tier.resources)
    threads = 1 if tier.external else tier.threads  # it only listens
    cpus = wanted.pop("CPU", section.replica_cpus * threads)
    targets: dict[str, float] = {REQUESTS: tier.target_ongoing}
    if tier.kind == "model" and not tier.external:
        targets[TOKENS] = tier.target_tokens
    least, most = (count + tier.standby for count in (tier.min_replicas, tier.max_replicas))
    options = _options(section, least, most, targets, cpus)
    on_gpus = tier.kind == "model" and tier.engine == VLLM
    if on_gpus and most > 1:  # the other engines keep no beginnings of prompts
        options["request_router_config"] = AFFINITY
    if tier.tensor_parallel > 1:
        # vLLM's workers take the GPUs of the replica's placement group; the replica itself sits in the first bundle.
        first = {"GPU": 1.0} | ({"CPU": cpus} if cpus else {})
        options["placement_group_bundles"] = [first, *({"GPU": 1.0} for _ in range(tier.tensor_parallel - 1))]
        options["placement_group_strategy"] = "STRICT_PACK"
    if gpus := wanted.pop("GPU", float(on_gpus and tier.tensor_parallel == 1)):
        options["ray_actor_options"]["num_gpus"] = gpus
    if wanted:
        options["ray_actor_options"]["resources"] = wanted
    return {**options, "name": deployment_name(tier), "max_ongoing_requests": tier.max_ongoing}


def _options(section: ServeSection, least: int, most: int, targets: Mapping[str, float], cpus: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_replicas": least,
        "max_ongoing_requests": 200,
        "health_check_period_s": 2,
        # What a replica that is taken away still answers it shall finish.
        "graceful_shutdown_timeout_s": section.request_timeout_s + DRAIN_S,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
        "ray_actor_options": {"num_cpus": cpus},
    }
    if least == most:
        return options
    # What may sleep starts with one, which says what it serves. Others keep their number through a new deployment.
    first = {} if least else {"initial_replicas": 1}
    rules = {"least": least, "most": most, "targets": dict(targets), **section.scaling.model_dump()}
    return options | {
        "num_replicas": "auto",
        "autoscaling_config": {
            "min_replicas": least,
            "max_replicas": most,
            **first,
            "metrics_interval_s": TOLD_S,
            "look_back_period_s": LOOK_BACK_S,
            # Serve's own delays are off: those of the policy know of the past.
            "upscale_delay_s": 0.0,
            "downscale_delay_s": 0.0,
            "downscale_to_zero_delay_s": 0.0,
            "policy": {"policy_function": POLICY, "policy_kwargs": rules},
        },
    }
