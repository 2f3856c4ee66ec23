"""The shipped configurations, as functions: a laptop, one big node, an autoscaling cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import UsageError
from cluster.core.sections.cache import CacheSection
from cluster.core.sections.cluster import ClusterSection
from cluster.core.sections.data import IndexSection
from cluster.core.sections.scaling import GatewayReplicas, Replicas, RetrieverReplicas
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.tiers import LARGE, MEDIUM, QUOTE, TierOptions
from cluster.core.sections.train import TrainSection

SOME_QUOTES = QUOTE.model_copy(update={"min_replicas": 2, "max_replicas": 4})
# Where several people ask, the trained guard reads along; on a laptop it would cost each question a tenth of its time.
ALL_GUARDS = ("characters", "rules", "classifier", "personal_data")
LARGER = tuple(tier.model_copy(update={"max_replicas": 2}) for tier in (MEDIUM, LARGE))


def laptop() -> PlinthConfig:
    """One machine, no accelerator, loopback only: what ``make quickstart`` runs.

    The numbers of replicas are fixed: each replica alone keeps all cores of a laptop busy, so more of them would share
    the same cores, and each holds an embedder or a model in memory.
    """
    return PlinthConfig()


def node() -> PlinthConfig:
    """One server: two replicas of everything on the request path, so that no single crash is seen, more under load.
    The tiers `medium` and `large` wait for models of yours."""
    return PlinthConfig(
        serve=ServeSection(
            gateway_replicas=GatewayReplicas(min=2, max=4),
            retriever_replicas=RetrieverReplicas(min=2, max=4),
            guard_replicas=Replicas(min=2, max=4),
            guards=ALL_GUARDS,
            tiers=(SOME_QUOTES, *LARGER),
            cache=CacheSection(on=True),
            model_defaults=TierOptions(max_replicas=2),
        )
    )


def cluster() -> PlinthConfig:
    """The nodes of ``ray-cluster.yaml``: replicas and workers reserve CPUs, so that Ray adds nodes for them.

    Numbers of workers are fixed here: counting the CPUs there are would find none, since the head offers none and the
    other nodes come only when they are asked for.
    """
    return PlinthConfig(
        cluster=ClusterSection(single_node=False, heavy_jobs=4),
        index=IndexSection(embed_workers=8),
        train=TrainSection(workers=4, worker_cpus=1.0),
        serve=ServeSection(
            gateway_replicas=GatewayReplicas(min=2, max=4),
            retriever_replicas=RetrieverReplicas(min=2, max=8),
            guard_replicas=Replicas(min=2, max=8),
            guards=ALL_GUARDS,
            tiers=(SOME_QUOTES, *LARGER),
            cache=CacheSection(on=True),
            model_defaults=TierOptions(max_replicas=4),
            replica_cpus=1.0,
        ),
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
