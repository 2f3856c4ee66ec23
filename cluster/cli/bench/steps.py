"""Clients that ask again as soon as they are answered (closed loop), their number in steps: one, ten, one.

What a step of load shows is whether replicas follow it and latencies come back, so each step is judged in halves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from cluster.cli.bench.load import percentile
from cluster.cli.bench.replay import ANSWERED, FAILED, REFUSAL, Outcome, Send, client_of, outcome_of
from cluster.cli.bench.trace import Arrival
from cluster.core.errors import UsageError

AGAIN_S = 1.0  # whoever was refused waits before he asks again
MOST_CLIENTS = 1000


@dataclass(frozen=True)
class Step:
    """So many clients for so many seconds."""

    clients: int
    seconds: float


def steps_of(text: str) -> list[Step]:
    """What ``1:30,10:120,1:60`` means: CLIENTS:SECONDS, one after the other.

    Raises:
        UsageError: it is written otherwise, or a number is out of range.
    """
    found = []
    for part in text.split(","):
        clients, _, seconds = part.strip().partition(":")
        try:
            step = Step(int(clients), float(seconds))
        except ValueError:
            raise UsageError(f"--steps: {part.strip()!r} is not CLIENTS:SECONDS, as in 1:30,10:120,1:60") from None
        if not (1 <= step.clients <= MOST_CLIENTS and 0 < step.seconds < float("inf")):
            raise UsageError(f"--steps: {part.strip()!r}: 1 to {MOST_CLIENTS} clients, and more than 0 seconds")
        found.append(step)
    return found


async def stepped(base_url: str, steps: Sequence[Step], send: Send, advance: Callable[[], None]) -> list[Outcome]:
    """Run the steps; a request that is under way when a step ends is waited for beside the next one.

    Args:
        send, advance: as ``replay`` takes them.
    """
    found: list[Outcome] = []

    async def asks(client: httpx.AsyncClient, until: float) -> None:
        while (now := time.perf_counter() - begun) < until:
            outcome = await outcome_of(send, client, Arrival(now, 0, 0), begun)
            found.append(outcome)
            advance()
            if outcome.kind != ANSWERED:
                await asyncio.sleep(min(AGAIN_S, max(0.0, until + begun - time.perf_counter())))

    most = 2 * max(step.clients for step in steps)
    async with client_of(base_url, most) as client, asyncio.TaskGroup() as group:
        begun, end = time.perf_counter(), 0.0
        for step in steps:
            end += step.seconds
            for _ in range(step.clients):
                group.create_task(asks(client, end))
            await asyncio.sleep(max(0.0, begun + end - time.perf_counter()))
    return found


def by_step(outcomes: Sequence[Outcome], steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Of each step: ``clients``, ``begin_s``, ``end_s``, what became of the requests sent in it (``answered``,
    ``refused``, ``failed``), ``p50_ms`` and ``p95_ms`` of those answered, and the same for its two ``halves``."""
    found, begin = [], 0.0
    for step in steps:
        end, middle = begin + step.seconds, begin + step.seconds / 2
        halves = [_judged(outcomes, *part) for part in ((begin, middle), (middle, end))]
        told = {"clients": step.clients, "begin_s": begin, "end_s": end, **_judged(outcomes, begin, end)}
        found.append({**told, "halves": halves})
        begin = end
    return found


def _judged(outcomes: Sequence[Outcome], begin: float, end: float) -> dict[str, Any]:
    sent = [one for one in outcomes if begin <= one.sent < end]
    took = [one.whole_ms for one in sent if one.kind == ANSWERED]
    counts = {kind: sum(one.kind == kind for one in sent) for kind in (ANSWERED, REFUSAL, FAILED)}
    return {**counts, **{f"p{q}_ms": percentile(took, q) if took else None for q in (50, 95)}}
