"""The table of actors, and the only place where one is looked up or started. Callers get plain clients."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from actors.registry import history
from actors.registry.models import Registry
from actors.registry.server import RegistryServer
from cluster.core.code import PROCESS, source_hash
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from cluster.ray_errors import plain

if TYPE_CHECKING:
    from actors.policies.gate import GateResult

NAMESPACE = "plinth"
HEAD = {"node:__internal_head__": 0.001}  # local state is on the head's disk
CALL_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ActorOptions:
    """How an actor runs.

    ``runs`` is the module of its class: the hash of that source is part of the name, so that new code is a new actor.
    """

    role: str
    runs: str
    num_cpus: float = 0.0
    max_restarts: int = -1
    max_task_retries: int = 0
    resources: tuple[tuple[str, float], ...] = tuple(HEAD.items())

    @property
    def name(self) -> str:
        return f"{self.role}-{source_hash(self.runs, within=PROCESS)[:8]}"


ACTORS = {"registry": ActorOptions("registry", "actors.registry.server")}


def start(role: str, cls: type, *arguments: Any) -> Any:
    """The handle of a detached actor of this role, started if it does not run; those of other code are ended."""
    wanted = ACTORS[role]
    for found in ray.util.list_named_actors(all_namespaces=True):
        if found["namespace"] == NAMESPACE and found["name"].startswith(f"{role}-") and found["name"] != wanted.name:
            with contextlib.suppress(ValueError):  # it ended meanwhile
                ray.kill(ray.get_actor(found["name"], namespace=NAMESPACE))
    return (
        ray.remote(cls)
        .options(
            name=wanted.name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=wanted.num_cpus,
            max_restarts=wanted.max_restarts, max_task_retries=wanted.max_task_retries,
            resources=dict(wanted.resources),
        )
        .remote(*arguments)
    )  # fmt: skip


class RegistryClient:
    """The registry through its actor: the same calls as ``Registry``, with one writer in the whole cluster.

    Where the actor cannot be reached, the store is written directly: a training run does not fail for it, and every
    write may safely be made twice.
    """

    def __init__(self, store: Store, handle: Any) -> None:
        self._store, self._handle = store, handle

    def register(self, name: str, version: str) -> Manifest:
        made: Manifest = self._write("register", name=name, version=version)
        return made

    def promote(self, name: str, version: str, gate: GateResult, report: str = "") -> None:
        self._write("promote", name=name, version=version, gate=gate, report=report)

    def refuse(self, name: str, version: str, gate: GateResult, report: str = "") -> None:
        self._write("refuse", name=name, version=version, gate=gate, report=report)

    def taint(self, name: str, version: str, reason: str) -> None:
        self._write("taint", name=name, version=version, reason=reason)

    def nudge(self) -> None:
        """Have the mirror look at the store now; returns at once."""
        self._handle.nudge.remote()

    def _write(self, method: str, **arguments: Any) -> Any:
        who = history.who()
        try:
            return ray.get(self._handle.write.remote(method, who, arguments), timeout=CALL_TIMEOUT_S)
        except RayTaskError as error:
            raise plain(error, "writing to the registry") from None
        except (RayActorError, GetTimeoutError) as error:
            log_event("registry", "actor_unreachable", method=method, error=type(error).__name__)
            return getattr(Registry(self._store, who), method)(**arguments)


def registry(store: Store, home: Home) -> RegistryClient:
    """The registry of the running cluster; ray must be connected."""
    return RegistryClient(store, start("registry", RegistryServer, store.uri, str(home.root)))
