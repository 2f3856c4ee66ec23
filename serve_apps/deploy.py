"""The Serve graph (R): every deployment, option and bind in one place.

gateway (HTTP ingress) -> guard and retriever together -> a tier -> guard. The classes that do the work are plain
(`replicas/`, `gateway/`); here they become deployments. Tiers are made of their configuration (`tier_application`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.sections.tiers import TierConfig, TierKind, embedding_name
from cluster.core.telemetry import log_event
from cluster.supervision import Watch
from serve_apps import served_code
from serve_apps.gateway import handles
from serve_apps.gateway.protocols import TierState
from serve_apps.guards.chain import check_guard_names
from serve_apps.metrics.page import MetricsPage
from serve_apps.metrics.recorder import RayRecorder
from serve_apps.replicas.guard import GuardReplica
from serve_apps.replicas.model import ModelReplica
from serve_apps.replicas.options import fixed_options, tier_options
from serve_apps.replicas.quote import QuoteReplica, quote_state
from serve_apps.replicas.retriever import RetrieverReplica

APP = "plinth"
HEAD = {"node:__internal_head__": 0.001}  # a resource that only the head node has


def stay_on_loopback(config: PlinthConfig) -> None:
    """Make this replica's inter-deployment gRPC server listen on loopback, where the platform is one machine.

    Serve binds it to every interface ("[::]:0") and has no setting for it. The server starts after the deployment's
    __init__, which calls this. Private API, pinned ray: tests/live checks every listener of the running service.
    """
    if not config.cluster.single_node:
        return
    import ray.serve._private.replica as replica

    bind: Any = replica.add_port_to_grpc_server
    if getattr(bind, "on_loopback", False):
        return

    def on_loopback(server: Any, address: str) -> int:
        return bind(server, address.replace("[::]", "127.0.0.1"))

    on_loopback.on_loopback = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = on_loopback


def report_start(component: str, code: str) -> None:
    """One log line per replica start: restarts show up in `plinth logs`. ``code`` is the hash of the served code."""
    log_event(component, "replica_started", code=code)


@serve.deployment(name="guard")
class Guard(GuardReplica):
    """``GuardReplica`` as a deployment: on loopback only, its start logged."""

    def __init__(self, config: PlinthConfig, code: str) -> None:
        stay_on_loopback(config)
        super().__init__(config)
        report_start("guard", code)


@serve.deployment(name="retriever")
class Retriever(RetrieverReplica):
    """``RetrieverReplica`` as a deployment: on loopback only, its start logged, its metrics kept by Ray."""

    def __init__(self, config: PlinthConfig, code: str) -> None:
        stay_on_loopback(config)
        super().__init__(config, RayRecorder())
        report_start("retriever", code)


@serve.deployment
class QuoteTier(QuoteReplica):
    """``QuoteReplica`` as a deployment, one for each tier of this kind: on loopback only, its start logged."""

    def __init__(self, config: PlinthConfig, code: str, tier: TierConfig) -> None:
        stay_on_loopback(config)
        super().__init__(config, tier)
        report_start("quote", code)


@serve.deployment
class ModelTier(ModelReplica):
    """``ModelReplica`` as a deployment, one for each tier of this kind: on loopback only, its start logged."""

    def __init__(self, config: PlinthConfig, code: str, tier: TierConfig) -> None:
        stay_on_loopback(config)
        super().__init__(config, tier)
        report_start("model", code)


TIERS: dict[TierKind, Any] = {"quote": QuoteTier, "model": ModelTier}


def tier_application(config: PlinthConfig, code: str, tier: TierConfig) -> serve.Application:
    """A tier as its configuration has it: the deployment of its kind, with its own replicas and resources, bound."""
    return _with(TIERS[tier.kind], tier_options(tier, config.serve.replica_cpus)).bind(config, code, tier)


def tier_client(config: PlinthConfig, tier: TierConfig, handle: DeploymentHandle) -> handles.TierHandle:
    """The gateway's end of a tier: what a model serves changes while it runs, other tiers are what they are."""
    if tier.kind == "quote":
        return handles.TierHandle(quote_state(config, tier), handle, follows=False)
    unknown = TierState(tier.name, ready=False, earned=False, price=tier.price)
    return handles.TierHandle(unknown, handle, follows=True)


@serve.deployment(name="gateway")
@serve.ingress()
class GatewayIngress:
    """HTTP in, SSE out: binds the plain Gateway to handles."""

    def __init__(
        self,
        config: PlinthConfig,
        code: str,
        guard: DeploymentHandle,
        retriever: DeploymentHandle,
        tiers: tuple[TierConfig, ...],
        tier_handles: dict[str, DeploymentHandle],
    ) -> None:
        from data_jobs.pii import MAX_ENTITY_CHARS
        from serve_apps.gaps.book import GapBook, GapNotes
        from serve_apps.gateway.gateway import Gateway
        from serve_apps.gateway.request_log import Journal
        from serve_apps.routing.features import features_of
        from serve_apps.routing.learned import LearnedRouter
        from train_jobs.answering.conversation import standalone_question

        stay_on_loopback(config)
        self._config = config
        recorder = RayRecorder()
        recorder.record("plinth_head_restarts", Watch.read(Home.from_env()).restarts, {})
        self._gateway = Gateway(
            config.serve,
            guard=handles.GuardHandle(guard),
            retriever=handles.RetrieverHandle(retriever),
            tiers={tier.name: tier_client(config, tier, tier_handles[tier.name]) for tier in tiers},
            embedding_model=embedding_name(config.index.embedder),
            question_of=standalone_question,
            longest_finding=MAX_ENTITY_CHARS,
            journal=Journal(recorder),
            features_of=partial(features_of, section=config.answer),
            note_gap=GapNotes(GapBook.of(Home.from_env())).note,
            learned=LearnedRouter.of(Home.from_env()),
        )
        report_start("gateway", code)

    def __serve_build_asgi_app__(self) -> Any:
        from serve_apps.api.openai_http import build_http

        return build_http(self._gateway, self._config.serve, metrics_source=MetricsPage())


def build_app(config: PlinthConfig, models: Sequence[str] = ()) -> serve.Application:
    """The bound graph for ``serve.run``.

    Args:
        models: registered models, there or still to be trained; those without an entry in ``serve.tiers`` become tiers
            with ``serve.model_defaults``.

    Raises:
        UsageError: ``serve.guards`` names an unknown guard.
    """
    section = config.serve
    check_guard_names(section.guards)
    code = served_code()  # classes travel by name: without it Serve would not notice new code
    cpus = section.replica_cpus
    guard = _with(Guard, fixed_options(section.guard_replicas, cpus)).bind(config, code)
    retriever_cpus = cpus * section.embed_threads
    retriever = _with(Retriever, fixed_options(section.retriever_replicas, retriever_cpus)).bind(config, code)
    tiers = section.with_registered(models)
    applications = {tier.name: tier_application(config, code, tier) for tier in tiers}
    # HTTP stays on the head's loopback, so that is where gateways run: HAProxy reaches those of its own node. The head
    # of a cluster takes no other work, so they reserve nothing there.
    options = fixed_options(section.gateway_replicas, cpus)
    if not config.cluster.single_node:
        options["ray_actor_options"] = {"num_cpus": 0, "resources": HEAD}
    return _with(GatewayIngress, options).bind(config, code, guard, retriever, tiers, applications)


def _with(deployment: Any, options: dict[str, Any]) -> Any:
    """A deployment (which Serve's decorator makes of a class, unknown to type checkers) with these options."""
    return deployment.options(**options)


def run(config: PlinthConfig, models: Sequence[str]) -> None:
    """Deploy on the connected cluster and return when every deployment is running."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the CLI says what happens
    serve.start(
        http_options={"host": config.cluster.host, "port": config.cluster.http_port},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    serve.run(build_app(config, models), name=APP, route_prefix="/", logging_config={"log_level": "ERROR"})
