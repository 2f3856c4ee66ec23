"""The Serve graph (R): every deployment, option and bind in one place.

gateway (HTTP ingress) -> guard and retriever together -> a tier -> guard. The classes that do the work are plain
(`replicas/`, `gateway/`); here they become deployments. Tiers are made of their configuration.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from actors.audit.client import AuditClient
from actors.ledger.database import Database
from actors.spawn import audit_reader, audit_writer
from cluster.core.config import PlinthConfig
from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.memory import memory_folder
from cluster.core.sections.cluster import LOOPBACK
from cluster.core.sections.tiers import TierConfig, TierKind, embedding_name
from cluster.core.telemetry import log_event
from cluster.haproxy_edge import edge_seal
from cluster.supervision import Watch
from serve_apps import served_code
from serve_apps.gateway import handles
from serve_apps.gateway.protocols import TierClient, TierState
from serve_apps.gateway.sleeping import SleepingTier
from serve_apps.guards.chain import check_guard_names
from serve_apps.guards.policy import load_policies
from serve_apps.metrics.page import metrics_page
from serve_apps.metrics.recorder import RayRecorder
from serve_apps.metrics.spans import Spans
from serve_apps.replicas.external import ExternalReplica, external_state
from serve_apps.replicas.guard import GuardReplica
from serve_apps.replicas.model import ModelReplica
from serve_apps.replicas.options import deployment_name, graph_options
from serve_apps.replicas.quote import QuoteReplica, quote_state
from serve_apps.replicas.retriever import RetrieverReplica
from serve_apps.replicas.traced import traced
from serve_apps.scaling.room import check_room, surging

APP = "plinth"


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
@traced("guard", "check_input", "check_output")
class Guard(GuardReplica):
    """``GuardReplica`` as a deployment: on loopback only, its start logged."""

    def __init__(self, config: PlinthConfig, code: str) -> None:
        stay_on_loopback(config)
        super().__init__(config)
        self.spans = Spans(config.serve.otlp_url)
        report_start("guard", code)


@serve.deployment(name="retriever")
@traced("retriever", "search", "embed")
class Retriever(RetrieverReplica):
    """``RetrieverReplica`` as a deployment: on loopback only, its start logged, its metrics kept by Ray."""

    def __init__(self, config: PlinthConfig, code: str) -> None:
        stay_on_loopback(config)
        super().__init__(config, RayRecorder())
        self.spans = Spans(config.serve.otlp_url)
        report_start("retriever", code)


@serve.deployment
@traced("tier", "stream", "complete")
class QuoteTier(QuoteReplica):
    """``QuoteReplica`` as a deployment, one for each tier of this kind: on loopback only, its start logged."""

    def __init__(self, config: PlinthConfig, code: str, tier: TierConfig) -> None:
        stay_on_loopback(config)
        super().__init__(config, tier)
        self.spans = Spans(config.serve.otlp_url)
        report_start("quote", code)


@serve.deployment
@traced("tier", "stream", "complete")
class ModelTier(ModelReplica):
    """``ModelReplica`` as a deployment, one for each tier of this kind: on loopback only, its start logged."""

    def __init__(self, config: PlinthConfig, code: str, tier: TierConfig) -> None:
        stay_on_loopback(config)
        super().__init__(config, tier)
        self.spans = Spans(config.serve.otlp_url)
        report_start("model", code)


@serve.deployment
@traced("tier", "stream", "complete")
class ExternalTier(ExternalReplica):
    """``ExternalReplica`` as a deployment, one for each tier of another server: on loopback only, its start logged."""

    def __init__(self, config: PlinthConfig, code: str, tier: TierConfig) -> None:
        stay_on_loopback(config)
        super().__init__(config, tier)
        self.spans = Spans(config.serve.otlp_url)
        report_start("model", code)


def audit_client(config: PlinthConfig, recorder: RayRecorder) -> AuditClient:
    """The gateway's end of the audit log, which is on the head's disk."""

    def lost(count: int, reason: str) -> None:
        recorder.record("plinth_audit_lost_total", count, {"reason": reason})

    return AuditClient(partial(audit_writer, Home.from_env(), config.trust.audit), lost)


TIERS: dict[TierKind, Any] = {"quote": QuoteTier, "model": ModelTier}


def tier_client(config: PlinthConfig, tier: TierConfig, handle: DeploymentHandle) -> TierClient:
    """The gateway's end of a tier: what a model serves changes while it runs, other tiers are what they are."""
    if tier.kind == "quote":
        fixed = tier.max_replicas + tier.standby if tier.min_replicas == tier.max_replicas else 0
        return handles.WholeTierHandle(quote_state(config, tier), handle, fixed)
    if tier.external:
        return handles.TierHandle(external_state(tier, ready=False), handle, follows=True)
    unknown = TierState(tier.name, ready=False, earned=False, price=tier.price)
    client = handles.TierHandle(unknown, handle, follows=True)
    return client if tier.min_replicas else SleepingTier(client, config.serve.scaling.zero_after_s / 2)


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
        from actors import spawn
        from actors.feedback.book import FeedbackBook
        from actors.ledger.key_book import pepper_of
        from actors.ledger.wallet import Wallet
        from actors.review.queue import ReviewQueue
        from data_jobs.pii import MAX_ENTITY_CHARS, redact
        from serve_apps.gaps.book import GapBook, GapNotes
        from serve_apps.gateway.audit_trail import AuditTrail, masked
        from serve_apps.gateway.budget import Budget, MostOfTier
        from serve_apps.gateway.cache_key import Versions
        from serve_apps.gateway.feedback import FeedbackDesk
        from serve_apps.gateway.gateway import Gateway
        from serve_apps.gateway.request_log import Journal, each
        from serve_apps.gateway.request_spans import send_spans
        from serve_apps.gateway.reviewing import ReviewDesk
        from serve_apps.gateway.token_counts import RegexTokenCounter
        from serve_apps.gateway.walks import CorpusWalks
        from serve_apps.routing.features import features_of
        from serve_apps.routing.learned import LearnedRouter
        from train_jobs.answering.conversation import standalone_question
        from train_jobs.answering.quote import answer

        stay_on_loopback(config)
        self._config, home = config, Home.from_env()
        self._recorder = recorder = RayRecorder()
        audit, spans = config.trust.audit, partial(send_spans, Spans(config.serve.otlp_url))
        show, mask = partial(audit_reader, Home.from_env(), audit), masked(redact)
        trail = AuditTrail(audit, audit_client(config, recorder), mask, show=show) if audit.on else None
        walks = CorpusWalks(config.trust, recorder, trail.event if trail else lambda *said, **more: None)
        ended = each(spans, walks.note, *([trail.ended] if trail else []))
        self._gateway = Gateway(
            config.serve,
            guard=handles.GuardHandle(guard, config.serve.guard_replicas.fixed),
            retriever=handles.RetrieverHandle(retriever, config.serve.retriever_replicas.max),
            tiers={tier.name: tier_client(config, tier, tier_handles[tier.name]) for tier in tiers},
            embedding_model=embedding_name(config.index.embedder),
            question_of=standalone_question,
            longest_finding=MAX_ENTITY_CHARS,
            journal=Journal(recorder, also=ended),
            features_of=partial(features_of, section=config.answer),
            note_gap=GapNotes(GapBook.of(Home.from_env())).note,
            learned=LearnedRouter.of(Home.from_env()),
            versions=Versions.of(config, code),
            budget=Budget(
                Wallet(spawn.ledger(config, home), config.trust.ledger, home.run / "ledger"),
                {tier.name: MostOfTier.of(tier, config.answer) for tier in tiers},
                RegexTokenCounter(),
            ),
            trail=trail,
            policies=load_policies(config.trust.policies),
            review=ReviewDesk(ReviewQueue.of(home.root, config.trust.ledger.url), config.trust.review, mask, trail),
            feedback=FeedbackDesk(
                FeedbackBook.of(home.root, config.trust.ledger.url), config.trust.feedback, pepper_of(home), mask
            ),
            answers=memory_folder(),
            quote_of=partial(answer, section=config.answer),
        )
        report_start("gateway", code)

    async def check_health(self) -> None:
        """Serve calls this every few seconds: a gauge that nobody sets again is off the page soon."""
        self._recorder.record("plinth_head_restarts", Watch.read(Home.from_env()).restarts, {})
        await self._gateway.tidy(self._recorder)

    def __serve_build_asgi_app__(self) -> Any:
        from actors.ledger.key_book import KeyBook
        from serve_apps.api.openai_http import build_http
        from serve_apps.gateway.doorkeeper import Doorkeeper
        from serve_apps.metrics.operations import Operations

        home, section, trust = Home.from_env(), self._config.serve, self._config.trust
        metrics = metrics_page(home)
        book, port = KeyBook.of(home) if trust.keys else None, self._config.cluster.http_port
        keeper = Doorkeeper(book, trust, port, seal=edge_seal(os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")))
        return build_http(self._gateway, section, metrics, Operations(self._gateway, section, home, metrics), keeper)


def build_app(config: PlinthConfig, models: Sequence[str] = ()) -> serve.Application:
    """The bound graph for ``serve.run``.

    Args:
        models: registered models, there or still to be trained; those without an entry in ``serve.tiers`` become tiers
            with ``serve.model_defaults``.

    Raises:
        UsageError: ``serve.guards`` names an unknown guard, or there can be no room for the replicas.
    """
    check_guard_names(config.serve.guards)
    load_policies(config.trust.policies)
    tiers = config.serve.with_registered(models)
    options = graph_options(config, tiers)
    there = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []
    kinds = [] if config.cluster.single_node or not there else _node_kinds()
    if there and (config.cluster.single_node or kinds):  # else nobody can say what there will be
        check_room(options, [*there, *kinds], all_there=config.cluster.single_node)
    options = surging(options, there, grows=bool(kinds))
    code = served_code(config.trust.policies)  # classes travel by name: without it Serve would not notice new code
    guard = _with(Guard, options["guard"]).bind(config, code)
    retriever = _with(Retriever, options["retriever"]).bind(config, code)
    applications = {
        tier.name: _with(ExternalTier if tier.external else TIERS[tier.kind], options[deployment_name(tier)]).bind(
            config, code, tier
        )
        for tier in tiers
    }
    gateway = _with(GatewayIngress, options["gateway"])
    return gateway.bind(config, code, guard, retriever, tiers, applications)


def _node_kinds() -> list[dict[str, float]]:
    """What each kind of node has that Ray's autoscaler may add; empty where it is not told of any."""
    told = ray._private.state.state.get_cluster_config()
    return [dict(kind.resources) for kind in told.node_group_configs] if told else []


def _with(deployment: Any, options: dict[str, Any]) -> Any:
    """A deployment (which Serve's decorator makes of a class, unknown to type checkers) with these options."""
    return deployment.options(**options)


def run(config: PlinthConfig, models: Sequence[str]) -> None:
    """Deploy on the connected cluster and return when every deployment is running.

    Raises:
        UsageError: see ``build_app``.
        EnvironmentFaultError: a deployment does not stand; the others do. Or the ledger's database does not answer.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the CLI says what happens
    serve.start(
        http_options={"host": LOOPBACK, "port": config.cluster.http_port},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    app = build_app(config, models)
    if config.trust.ledger.url:  # a server that does not answer is better found now than by the first request
        with Database.of(Home.from_env().root, config.trust.ledger.url).reading():
            log_event("cluster", "ledger_reached")
    try:
        serve.run(app, name=APP, route_prefix="/", logging_config={"log_level": "ERROR"})
    except RuntimeError as error:  # what Serve raises for a deployment that does not come up
        message = f"{error} What stands answers; `plinth status` says why the rest does not"
        raise EnvironmentFaultError(message) from error
