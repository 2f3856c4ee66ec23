"""What goes on, for people who look at it: replicas, queue, latencies, tiers, collections, scale events.

Each part is asked where it is known: Ray's dashboard (as `plinth status` asks it), the metrics of all replicas, the
retriever, the tiers, the gateways' log. Many who look at once cost one look, a part that does not answer keeps nobody
waiting, and lists have an end. Nothing secret and nothing that anybody asked is in it.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from cluster.core.errors import PlinthError
from cluster.core.home import Home
from cluster.core.sections.serve import ServeSection
from cluster.deployments import deployments_now
from cluster.supervision import Watch
from serve_apps.gateway.gateway import Gateway
from serve_apps.gateway.protocols import TierState
from serve_apps.metrics.recent import RequestLog, history, lately
from serve_apps.metrics.text import by_deployment

FRESH_S, METRICS_FRESH_S = 1.0, 5.0  # Ray itself gathers metrics every few seconds only
PATIENCE_S, STALE_S = 1.5, 15.0
MOST = 50  # entries of a list; of more the first, or the newest
HEALTHY, IN_WORK, WAITING = (
    "ray_serve_deployment_replica_healthy",
    "ray_serve_replica_processing_queries",
    "ray_serve_deployment_queued_queries",
)
Found = TypeVar("Found")


class Part(Generic[Found]):
    """Something that is asked for at most once in ``fresh_s``, whoever wants to know it.

    Args:
        ask: an error of it counts as no answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[Found]], fresh_s: float = FRESH_S) -> None:
        self._ask, self._fresh_s = ask, fresh_s
        self._asked_at = self._told_at = float("-inf")
        self._told: Found | None = None
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self) -> Found | None:
        """What was told last, at most STALE_S ago; None: nothing was."""
        idle = self._asking is None or self._asking.done()
        if idle and time.monotonic() - self._asked_at >= self._fresh_s:
            self._asked_at = time.monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._look())
        if self._asking is not None and not self._asking.done():
            await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        return self._told if time.monotonic() - self._told_at <= STALE_S else None

    async def _look(self) -> None:
        try:
            self._told = await self._ask()
        except (PlinthError, OSError, ValueError):
            return
        self._told_at = time.monotonic()


class Operations:
    """Callable that returns it all as plain data.

    Args:
        metrics: returns Prometheus text for all replicas together.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        gateway: Gateway,
        section: ServeSection,
        home: Home,
        metrics: Callable[[], Awaitable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gateway, self._section, self._home, self._metrics, self._clock = gateway, section, home, metrics, clock
        self._log = RequestLog(home.root / "logs" / "gateway.jsonl")
        self._cluster = Part(lambda: asyncio.to_thread(self._look_at_cluster))
        self._work = Part(self._look_at_work, METRICS_FRESH_S)
        self._requests = Part(lambda: asyncio.to_thread(self._look_at_requests))
        self._cards = Part(gateway.collections.cards)
        self._tiers = Part(self._look_at_tiers)

    async def __call__(self) -> dict[str, Any]:
        """The body of ``GET /v1/plinth/ops``. What nobody told is null."""
        cluster, work, requests, cards, tiers = await asyncio.gather(
            self._cluster(), self._work(), self._requests(), self._cards(), self._tiers()
        )
        known = cluster or {"deployments": [], "scale_events": None, "supervisor": None}
        collections = None if cards is None else [self._collection(card) for card in cards]
        return {
            "object": "plinth.ops",
            "at": self._clock(),
            "supervisor": known["supervisor"],
            "deployments": replicas(known["deployments"], work or {})[:MOST],
            "scale_events": known["scale_events"],
            "queue": {**self._gateway.queue, "longest_wait_s": self._section.longest_wait_s},
            "tiers": None if tiers is None else tiers[:MOST],
            "collections": None if collections is None else sorted(collections, key=_default_first)[:MOST],
            "left_out": max(0, len(cards or ()) - MOST) + max(0, len(tiers or ()) - MOST),
            "requests": requests,
        }

    def _look_at_cluster(self) -> dict[str, Any]:
        found, events = deployments_now(self._home)
        return {
            "deployments": [one.to_dict() for one in found],
            "scale_events": events[-MOST:],
            "supervisor": Watch.read(self._home).to_dict(),
        }

    async def _look_at_work(self) -> dict[str, dict[str, float]]:
        page = await self._metrics()
        return await asyncio.to_thread(by_deployment, page, (HEALTHY, IN_WORK, WAITING))

    def _look_at_requests(self) -> dict[str, Any]:
        now = self._clock()
        seen = self._log.look(now)
        return {**lately(seen, now), "history": history(seen, now)}

    async def _look_at_tiers(self) -> list[dict[str, Any]]:
        await self._gateway.tiers.refresh()
        return [self._tier(state) for state in self._gateway.tiers.states]

    def _tier(self, state: TierState) -> dict[str, Any]:
        kind = self._section.tier(state.name).kind
        return {
            "name": state.name, "kind": kind, "state": _state(state), "version": state.model_version,
            "gate": _gate(state, kind), "auto": state.ready and state.earned, "fallback": state.fallback,
            "under_way": state.ongoing, "at_once": state.capacity, "alone_ms": round(state.latency_ms, 1),
        }  # fmt: skip

    def _collection(self, card: dict[str, Any]) -> dict[str, Any]:
        made = datetime.datetime.fromisoformat(card["index_as_of"]).timestamp()
        told = ("index_version", "index_as_of", "documents", "chunks", "default", "loaded")
        return {"name": card["collection"], "age_s": max(0.0, round(self._clock() - made, 1)),
                **{key: card.get(key) for key in told}}  # fmt: skip


def replicas(told: list[dict[str, Any]], work: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Deployments, each with what it works on and what waits for it.

    Args:
        told: as Ray's dashboard tells of them; where it does not, those that the metrics know take their place, with
            null for what only the dashboard knows.
        work: by deployment, the values of HEALTHY, IN_WORK and WAITING.
    """
    unknown = dict.fromkeys(("target", "min", "max", "ups", "downs", "last"))
    rows = told or [
        {"name": name, "running": int(one.get(HEALTHY, 0)), **unknown} for name, one in sorted(work.items())
    ]
    return [
        {**row, "in_work": work.get(row["name"], {}).get(IN_WORK), "waiting": work.get(row["name"], {}).get(WAITING)}
        for row in rows
    ]


def _state(state: TierState) -> str:
    return "asleep" if state.asleep else "ready" if state.ready else "not ready"


def _gate(state: TierState, kind: str) -> str | None:
    """What its gate said: a fallback is what gates compare with, and tiers of documents' own words have none."""
    if kind == "quote":
        return "baseline" if state.fallback else "none"
    return None if not state.model_version else "passed" if state.earned else "not passed"


def _default_first(collection: dict[str, Any]) -> tuple[bool, str]:
    return not collection["default"], collection["name"]
