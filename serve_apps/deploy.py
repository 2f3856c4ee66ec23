"""The Serve graph (R): every deployment, option and bind in one place.

gateway (HTTP ingress) -> guard and retriever together -> quote or a model's tier -> guard. The classes that do the work
are plain (`replicas.py`, `model_server.py`, `gateway.py`); here they become deployments.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.util.metrics import Counter, Gauge, Histogram

from cluster.core.code import source_hash
from cluster.core.config import PlinthConfig
from cluster.core.telemetry import METRICS
from serve_apps import served_code
from serve_apps.gateway import handles
from serve_apps.gateway.protocols import TierClient
from serve_apps.metrics.page import MetricsPage
from serve_apps.replicas.model import ModelReplica
from serve_apps.replicas.parts import GuardReplica, QuoteReplica, RetrieverReplica, report_start

APP = "plinth"
HEAD = {"node:__internal_head__": 0.001}  # a resource that only the head node has
EMBEDDING_MODELS = {"minilm": "all-minilm-l6-v2"}


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


class RayRecorder:
    """``Recorder`` over ray.util.metrics; each metric is registered on first use."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def record(self, metric: str, value: float, labels: dict[str, str]) -> None:
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


@serve.deployment(name="guard")
class Guard(GuardReplica):
    def __init__(self, config: PlinthConfig, code: str) -> None:
        stay_on_loopback(config)
        super().__init__(config)
        report_start("guard", code)


@serve.deployment(name="retriever")
class Retriever(RetrieverReplica):
    def __init__(self, config: PlinthConfig, code: str) -> None:
        stay_on_loopback(config)
        super().__init__(config, RayRecorder())
        report_start("retriever", code)


@serve.deployment(name="quote")
class Quote(QuoteReplica):
    def __init__(self, config: PlinthConfig, code: str) -> None:
        stay_on_loopback(config)
        super().__init__(config)
        report_start("quote", code)


@serve.deployment(name="model")
class ModelTier(ModelReplica):
    def __init__(self, config: PlinthConfig, code: str, name: str) -> None:
        stay_on_loopback(config)
        super().__init__(config, name)
        report_start("model", code)


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
        quote: DeploymentHandle,
        models: dict[str, DeploymentHandle],
    ) -> None:
        from data_jobs.pii import MAX_ENTITY_CHARS
        from serve_apps.gateway.gateway import Gateway
        from serve_apps.gateway.request_log import Journal
        from serve_apps.routing.features import features_of
        from train_jobs.answering.conversation import standalone_question

        stay_on_loopback(config)
        self._config = config
        tiers: dict[str, TierClient] = {
            "quote": handles.QuoteHandle(quote, model_version=source_hash("train_jobs.answering.quote"))
        }
        tiers |= {name: handles.ModelHandle(name, handle) for name, handle in models.items()}
        self._gateway = Gateway(
            config.serve,
            guard=handles.GuardHandle(guard),
            retriever=handles.RetrieverHandle(retriever),
            tiers=tiers,
            embedding_model=EMBEDDING_MODELS.get(config.index.embedder, "embedder"),
            question_of=standalone_question,
            longest_finding=MAX_ENTITY_CHARS,
            journal=Journal(RayRecorder()),
            features_of=partial(features_of, section=config.answer),
        )
        report_start("gateway", code)

    def __serve_build_asgi_app__(self) -> Any:
        from serve_apps.api.openai_http import build_http

        return build_http(self._gateway, self._config.serve, metrics_source=MetricsPage())


def build_app(config: PlinthConfig, models: Sequence[str] = ()) -> serve.Application:
    """The bound graph for ``serve.run``; ``models`` are the tiers that are models, there or still to be trained."""
    section = config.serve
    code = served_code()  # classes travel by name: without it Serve would not notice new code

    def options(deployment: Any, replicas: int, threads: int = 1, **more: Any) -> Any:
        return deployment.options(
            num_replicas=replicas,
            max_ongoing_requests=200,
            health_check_period_s=2,
            graceful_shutdown_timeout_s=10,
            logging_config={"enable_access_log": False, "log_level": "WARNING"},
            **{"ray_actor_options": {"num_cpus": section.replica_cpus * threads}, **more},
        )

    guard = options(Guard, section.guard_replicas).bind(config, code)
    retriever = options(Retriever, section.retriever_replicas, section.embed_threads).bind(config, code)
    quote = options(Quote, section.quote_replicas).bind(config, code)
    tiers = {
        name: options(ModelTier, section.model_replicas, section.engine_threads, name=f"model-{name}").bind(
            config, code, name
        )
        for name in models
    }
    # HTTP stays on the head's loopback, so that is where gateways run: HAProxy reaches those of its own node. The head
    # of a cluster takes no other work, so they reserve nothing there.
    place: dict[str, Any] = (
        {} if config.cluster.single_node else {"ray_actor_options": {"num_cpus": 0, "resources": HEAD}}
    )
    gateway = options(GatewayIngress, section.gateway_replicas, **place)
    return gateway.bind(config, code, guard, retriever, quote, tiers)


def run(config: PlinthConfig, models: Sequence[str]) -> None:
    """Deploy on the connected cluster and return when every deployment is running."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the CLI says what happens
    serve.start(
        http_options={"host": config.cluster.host, "port": config.cluster.http_port},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    serve.run(build_app(config, models), name=APP, route_prefix="/", logging_config={"log_level": "ERROR"})
