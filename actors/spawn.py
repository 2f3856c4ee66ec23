"""The table of actors, and the only place where one is looked up or started. Callers get plain clients."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError, RayTaskError

from actors.audit.entries import Entry
from actors.audit.reading import Wanted
from actors.audit.server import AuditServer
from actors.draining import DrainingError
from actors.ledger.amounts import Message, Reply, UsageRow
from actors.ledger.server import LedgerServer
from actors.registry import history
from actors.registry.models import Registry
from actors.registry.server import RegistryServer
from cluster.core.code import PROCESS, source_hash
from cluster.core.config import PlinthConfig
from cluster.core.errors import EnvironmentFaultError, PlinthError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.sections.audit import AuditSection
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from cluster.ray_errors import plain

if TYPE_CHECKING:
    from actors.policies.gate import GateResult

NAMESPACE = "plinth"
HEAD = {"node:__internal_head__": 0.001}  # local state is on the head's disk
CALL_TIMEOUT_S = 60.0
ABOUT_TIMEOUT_S = 10.0
DRAIN_TIMEOUT_S = CALL_TIMEOUT_S + 10  # every write that somebody still waits for gets done
AUDIT_TIMEOUT_S = 10.0
CONTROL = "control"  # the concurrency group of `about` and `drain`: they do not queue behind a long write
LOADED_AT = time.time()
ATTEMPTS = 3
SETTLES_S = 30.0  # a request that reached its deadline is settled within that time


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
        """What Ray knows the actor by: its role and eight digits of the hash of the source it runs."""
        return f"{self.role}-{source_hash(self.runs, within=PROCESS)[:8]}"


ACTORS = {
    "registry": ActorOptions("registry", "actors.registry.server"),
    "ledger": ActorOptions("ledger", "actors.ledger.server"),
    "audit": ActorOptions("audit", "actors.audit.server"),
}


def start(role: str, cls: type, *arguments: Any) -> Any:
    """The handle of the one detached actor of this role, started if it does not run.

    Actors of older code are drained, then ended, before the handle is given out: a role never has two writers. Which
    code is older is decided by when a process loaded it. That order is the same for every driver, so two that start at
    once agree on the actor that stays. A driver that was started before the actor of other code that runs uses that
    one; it does not bring its own, older one back.

    ``cls`` takes ``loaded_at`` and has ``about`` and ``drain`` (see ``RegistryServer``).
    """
    wanted, running = ACTORS[role], _running(role)
    known = {name: _about(handle) for name, handle in running.items()}
    newer = {name: about["loaded_at"] for name, about in known.items()
             if name != wanted.name and not about["draining"] and about["loaded_at"] > LOADED_AT}  # fmt: skip
    if newer:
        keep = max(newer, key=lambda name: newer[name])
        chosen = running.pop(keep)
    else:
        if wanted.name in running and known[wanted.name]["draining"]:
            _retire(wanted.name, running.pop(wanted.name))
        running.pop(wanted.name, None)
        chosen = _create(wanted, cls, *arguments)
    for name, handle in running.items():
        _retire(name, handle)
    return chosen


def _create(wanted: ActorOptions, cls: type, *arguments: Any) -> Any:
    remote: Any = ray.remote  # its types know nothing of concurrency groups
    return (
        remote(concurrency_groups={CONTROL: 4})(cls)
        .options(
            name=wanted.name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=wanted.num_cpus,
            max_restarts=wanted.max_restarts, max_task_retries=wanted.max_task_retries,
            resources=dict(wanted.resources),
        )
        .remote(*arguments, loaded_at=LOADED_AT)
    )  # fmt: skip


def _running(role: str) -> dict[str, Any]:
    """Handles of the actors of a role, of whatever code, by name."""
    found = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(f"{role}-"):
            with contextlib.suppress(ValueError):  # it ended meanwhile
                found[actor["name"]] = ray.get_actor(actor["name"], namespace=NAMESPACE)
    return found


def _about(handle: Any) -> dict[str, Any]:
    """What an actor says of itself, also while it writes. One that cannot say it (it restarts) counts as old."""
    try:
        about: dict[str, Any] = ray.get(
            handle.about.options(concurrency_group=CONTROL).remote(), timeout=ABOUT_TIMEOUT_S
        )
    except (RayError, AttributeError):  # AttributeError: an actor from before there was `about`
        return {"loaded_at": 0.0, "draining": False}
    return about


def _retire(name: str, handle: Any) -> None:
    """Let an actor finish what it does, then end it. Two drivers may do this to one actor."""
    log_event("registry", "actor_retired", actor=name)
    try:
        ray.get(handle.drain.options(concurrency_group=CONTROL).remote(), timeout=DRAIN_TIMEOUT_S)
        # Behind the write in progress, in its group: when this has its reply, that one has its own too.
        ray.get(handle.__ray_ready__.remote(), timeout=ABOUT_TIMEOUT_S)
    except (RayError, AttributeError) as error:  # it ended meanwhile, it hangs, or it is from before there was `drain`
        log_event("registry", "actor_not_drained", actor=name, error=type(error).__name__)
    ray.kill(handle)


class RegistryClient:
    """The registry through its actor: the same calls as ``Registry``, with one writer in the whole cluster.

    Where the actor cannot be reached, the store is written directly: a training run does not fail for it, and every
    write may safely be made twice. A write that reaches an actor which gives way to newer code goes to the new one.

    Args:
        find: gives the handle of the actor that runs now; called again when that one has gone.
    """

    def __init__(self, store: Store, find: Callable[[], Any]) -> None:
        self._store, self._find = store, find
        self._handle = find()

    def register(self, name: str, version: str) -> Manifest:
        """Take a published version into the registry and make it the candidate. Again changes nothing.

        Raises:
            BadInputError: there is no such version.
            UsageError: a required field of its plinth.json is missing or wrong.
            IntegrityError: its files are not what its manifest says.
            EnvironmentFaultError: the storage is full or not writable, or the actor's process died.
        """
        made: Manifest = self._write("register", name=name, version=version)
        return made

    def promote(self, name: str, version: str, gate: GateResult, report: str = "") -> None:
        """Make a version that passed its gate the champion; ``report`` is ``name@version`` of the gate's report.

        Raises:
            PolicyRefusedError: the gate did not pass, or its report is about another version.
            BadInputError: the version is not registered, or there is no such report.
            EnvironmentFaultError: the storage is full or not writable, or the actor's process died.
        """
        self._write("promote", name=name, version=version, gate=gate, report=report)

    def refuse(self, name: str, version: str, gate: GateResult, report: str = "") -> None:
        """Record that the gate refused a version; a champion that is refused gives way to ``previous``.

        Raises:
            PolicyRefusedError: the gate passed, or its report is about another version.
            BadInputError: the version is not registered, or there is no such report.
            EnvironmentFaultError: the storage is full or not writable, or the actor's process died.
        """
        self._write("refuse", name=name, version=version, gate=gate, report=report)

    def taint(self, name: str, version: str, reason: str) -> None:
        """Record that a version saw data that was forgotten since. No alias moves; the same again changes nothing.

        Raises:
            EnvironmentFaultError: the storage is full or not writable, or the actor's process died.
        """
        self._write("taint", name=name, version=version, reason=reason)

    def nudge(self) -> None:
        """Have the mirror look at the store now; returns at once."""
        self._handle.nudge.remote()

    def _write(self, method: str, **arguments: Any) -> Any:
        who = history.who()
        for _ in range(ATTEMPTS):
            try:
                return ray.get(self._handle.write.remote(method, who, arguments), timeout=CALL_TIMEOUT_S)
            except RayTaskError as error:
                if not isinstance(error.cause, DrainingError):
                    raise plain(error, "writing to the registry") from None
                reason: Exception = error.cause
            except (ActorUnavailableError, GetTimeoutError) as error:
                reason = error  # it restarts, or it is stuck: nobody waits for that
                break
            except RayActorError as error:
                reason = error
            self._handle = self._find()
        log_event("registry", "actor_unreachable", method=method, error=type(reason).__name__)
        return getattr(Registry(self._store, who), method)(**arguments)


def registry(store: Store, home: Home) -> RegistryClient:
    """The registry of the running cluster; ray must be connected."""
    return RegistryClient(store, lambda: start("registry", RegistryServer, store.uri, str(home.root)))


class LedgerClient:
    """The ledger through its actor, for an event loop (``actors.ledger.wallet.LedgerClient``).

    Args:
        find: gives the handle of the actor that runs now; called again, in a thread, when that one has gone.
    """

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find
        self._finding: asyncio.Future[Any] | None = None

    async def exchange(self, message: Message) -> Reply:
        """See ``Ledger.exchange``.

        Raises:
            EnvironmentFaultError: actor or database does not answer. Whether it was done, nobody knows.
        """
        reply: Reply = await self._call("exchange", message)
        return reply

    async def usage(self, since: str, until: str, key_id: str, tenant: str) -> list[UsageRow]:
        """See ``usage_rows``. Raises besides what ``exchange`` does."""
        rows: list[UsageRow] = await self._call("usage", since, until, key_id, tenant)
        return rows

    async def _call(self, method: str, *arguments: Any) -> Any:
        if self._finding is None or (self._finding.done() and (self._finding.cancelled() or self._finding.exception())):
            self._finding = asyncio.ensure_future(asyncio.to_thread(self._find))
        try:
            handle = await asyncio.shield(self._finding)
            return await getattr(handle, method).remote(*arguments)
        except RayTaskError as error:
            if isinstance(error.cause, PlinthError) and not isinstance(error.cause, DrainingError):
                raise error.cause from None
            self._finding = None
            raise EnvironmentFaultError(f"the ledger failed ({type(error.cause).__name__})") from error
        except RayError as error:
            if isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
                self._finding = None
            raise EnvironmentFaultError(f"the ledger does not answer ({type(error).__name__})") from error


def ledger(config: PlinthConfig, home: Home) -> LedgerClient:
    """The ledger of the running cluster, started if it does not run; ray must be connected."""
    due_s = config.trust.ledger.lease_s + config.serve.request_timeout_s + SETTLES_S
    return LedgerClient(lambda: start("ledger", LedgerServer, str(home.root), config.trust.ledger.url, due_s))


async def audit_writer(home: Home, section: AuditSection) -> Callable[[Sequence[Entry]], Awaitable[dict[str, Any]]]:
    """What ``AuditClient`` sends batches with: the audit actor, started if it does not run; ray must be connected.

    Raises:
        EnvironmentFaultError: it cannot be started. What is returned raises it too, where the actor does not answer.
    """
    handle = await _audit_actor(home, section)

    async def send(entries: Sequence[Entry]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(AUDIT_TIMEOUT_S):
                said: dict[str, Any] = await handle.write.remote(list(entries))
        except RayTaskError as error:
            raise plain(error, "writing to the audit log") from None
        except (RayError, TimeoutError) as error:
            raise EnvironmentFaultError(f"the audit actor does not answer ({type(error).__name__})") from error
        return said

    return send


async def audit_reader(home: Home, section: AuditSection, wanted: Wanted, count: int, by: str) -> list[dict[str, Any]]:
    """The newest records of the audit log that are wanted; that ``by`` reads them is written down.

    Raises:
        EnvironmentFaultError: the audit actor does not answer, or cannot write that down.
        IntegrityError: the log was changed.
    """
    handle = await _audit_actor(home, section)
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            read = handle.show.options(concurrency_group=CONTROL)  # writes do not wait for it
            rows: list[dict[str, Any]] = await read.remote(wanted, count, by)
    except RayTaskError as error:
        raise plain(error, "reading the audit log") from None
    except (RayError, TimeoutError) as error:
        raise EnvironmentFaultError(f"the audit actor does not answer ({type(error).__name__})") from error
    return rows


async def _audit_actor(home: Home, section: AuditSection) -> Any:
    try:
        return await asyncio.to_thread(start, "audit", AuditServer, str(home.root), section)
    except RayError as error:
        raise EnvironmentFaultError(f"the audit actor does not start ({type(error).__name__})") from error
