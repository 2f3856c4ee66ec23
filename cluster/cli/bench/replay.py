"""Requests sent when they are due, whether those before them were answered or not (open loop), and what became of them.

Latencies count from when a request was due, not from when this process got round to sending it: a generator that falls
behind would hide what its requests waited (Tene 2013, "coordinated omission").
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from cluster.cli.bench.load import percentile
from cluster.cli.bench.streamed import Reply
from cluster.cli.bench.trace import Arrival
from cluster.core.errors import BadInputError
from cluster.loopback import bearer

TIMEOUT_S = 60.0
REFUSED = (429, 503)
ANSWERED, REFUSAL, FAILED, NOT_SENT = "answered", "refused", "failed", "not_sent"
STEPS = 60  # of a timeline, at most
Send = Callable[[httpx.AsyncClient, Arrival], Awaitable[Reply]]


@dataclass(frozen=True)
class Outcome:
    """What became of one request; seconds since the replay began.

    Attributes:
        due, sent, ended: when it should have been sent, was sent, and ended.
        kind: answered, refused (for want of room), failed, or not_sent (too many were outstanding).
        code: why it was not answered.
        first_s: from ``sent`` to its first text; 0: it had none.
        tokens, prompt_tokens: as the service counts them.
    """

    due: float
    sent: float
    ended: float
    kind: str
    code: str = ""
    first_s: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0

    @property
    def whole_ms(self) -> float:
        """From when it was due to its end."""
        return (self.ended - self.due) * 1000

    @property
    def first_ms(self) -> float:
        """From when it was due to its first text, or to its end where it had none."""
        return (self.sent - self.due + self.first_s) * 1000 if self.first_s else self.whole_ms


async def replay(
    base_url: str, arrivals: Iterable[Arrival], send: Send, outstanding: int, advance: Callable[[], None]
) -> list[Outcome]:
    """Send each arrival when it is due; returns once all have ended.

    Args:
        send: sends one; raises what ``streamed`` raises.
        outstanding: most requests under way; one that is due beyond them is not sent, and counted.
        advance: called for each that has ended.
    """
    found: list[Outcome] = []
    under_way: set[asyncio.Task[None]] = set()
    begun = time.perf_counter()

    async def one(client: httpx.AsyncClient, arrival: Arrival) -> None:
        found.append(await outcome_of(send, client, arrival, begun))
        advance()

    async with client_of(base_url, outstanding) as client, asyncio.TaskGroup() as group:
        for arrival in arrivals:
            await asyncio.sleep(max(0.0, begun + arrival.at_s - time.perf_counter()))
            if len(under_way) >= outstanding:
                found.append(Outcome(arrival.at_s, arrival.at_s, arrival.at_s, NOT_SENT, "outstanding"))
                advance()
                continue
            task = group.create_task(one(client, arrival))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
    return found


def client_of(base_url: str, connections: int) -> httpx.AsyncClient:
    """A client with this machine's key and room for so many requests at once."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_S, limits=limits, trust_env=False, headers=bearer())


async def outcome_of(send: Send, client: httpx.AsyncClient, arrival: Arrival, begun: float) -> Outcome:
    """Send one and say what became of it. ``begun``: when the replay did, on the clock ``time.perf_counter``."""
    sent = time.perf_counter() - begun
    kind, code, reply = ANSWERED, "", Reply(0, 0.0, 0.0)
    try:
        reply = await send(client, arrival)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        kind, code = REFUSAL if status in REFUSED else FAILED, str(status)
    except httpx.TimeoutException:
        kind, code = FAILED, "timeout"
    except httpx.HTTPError as error:
        kind, code = FAILED, type(error).__name__
    except BadInputError:
        kind, code = FAILED, "stream"
    ended = time.perf_counter() - begun
    return Outcome(arrival.at_s, sent, ended, kind, code, reply.first_s, reply.tokens, reply.prompt_tokens)


def figures(outcomes: Sequence[Outcome], slo_ms: float) -> dict[str, Any]:
    """What a replay shows. Rates are per second: those asked for until the last was due, others until the last ended.

    Returns:
        {"requests", "answered", "refused", "failed", "not_sent", "codes": {code: count}, "seconds", "asked_per_s",
        "answered_per_s", "slo_ms", "good", "goodput_per_s", "goodput_share", "first_ms", "whole_ms": {"p50", "p95",
        "p99"} (null: nothing was answered), "late_ms": {"p95", "most"}, "tokens": {"prompt", "answer"},
        "queue": {"outstanding_mean", "outstanding_most", "waiting_mean"}, "timeline": [step]}
    """
    counts = Counter(one.kind for one in outcomes)
    answered = [one for one in outcomes if one.kind == ANSWERED]
    good = sum(one.whole_ms <= slo_ms for one in answered)
    due_s = max((one.due for one in outcomes), default=0.0)
    seconds = max((max(one.ended, one.due) for one in outcomes), default=0.0)
    late = [(one.sent - one.due) * 1000 for one in outcomes if one.kind != NOT_SENT]
    return {
        "requests": len(outcomes),
        **{kind: counts[kind] for kind in (ANSWERED, REFUSAL, FAILED, NOT_SENT)},
        "codes": dict(Counter(one.code for one in outcomes if one.code).most_common()),
        "seconds": seconds,
        "asked_per_s": _ratio(len(outcomes), due_s),
        "answered_per_s": _ratio(len(answered), seconds),
        "slo_ms": slo_ms,
        "good": good,
        "goodput_per_s": _ratio(good, seconds),
        "goodput_share": _ratio(good, len(outcomes)),
        "first_ms": _percentiles([one.first_ms for one in answered]),
        "whole_ms": _percentiles([one.whole_ms for one in answered]),
        "late_ms": {"p95": percentile(late, 95), "most": max(late)} if late else None,
        "tokens": {"prompt": sum(one.prompt_tokens for one in answered), "answer": sum(one.tokens for one in answered)},
        "queue": queue(outcomes, seconds),
        "timeline": timeline(outcomes, seconds),
    }


def queue(outcomes: Sequence[Outcome], seconds: float) -> dict[str, float]:
    """How many were outstanding, and an estimate of how many of them only waited: those outstanding less those that
    would be if each stayed as short as the quickest twentieth (Little 1961)."""
    sent = [one for one in outcomes if one.kind != NOT_SENT]
    stays = [one.ended - one.sent for one in sent]
    answered = [one.ended - one.sent for one in sent if one.kind == ANSWERED]
    mean = _ratio(sum(stays), seconds)
    working = _ratio(len(answered) * percentile(answered, 5), seconds) if answered else 0.0
    return {"outstanding_mean": mean, "outstanding_most": _most(sent), "waiting_mean": max(0.0, mean - working)}


def _most(sent: Sequence[Outcome]) -> int:
    most = now = 0
    # Where one ends as another is sent, the end comes first.
    for _, change in sorted([(one.sent, 1) for one in sent] + [(one.ended, -1) for one in sent]):
        now += change
        most = max(most, now)
    return most


def timeline(outcomes: Sequence[Outcome], seconds: float) -> list[dict[str, Any]]:
    """The replay in steps of whole seconds: ``at_s`` where each begins and how long it is (``step_s``), requests that
    were due in it, outcomes by when they ended, P50 and P95 (ms) of those answered, and outstanding at its end."""
    step = max(1, -(-int(seconds) // STEPS))
    found = []
    for begin in range(0, int(seconds) + 1, step):
        end = begin + step
        ended = [one for one in outcomes if begin <= one.ended < end]
        counts = Counter(one.kind for one in ended)
        answered = [one.whole_ms for one in ended if one.kind == ANSWERED]
        found.append({
            "at_s": begin,
            "step_s": step,
            "due": sum(begin <= one.due < end for one in outcomes),
            **{kind: counts[kind] for kind in (ANSWERED, REFUSAL, FAILED, NOT_SENT)},
            "p50_ms": percentile(answered, 50) if answered else None,
            "p95_ms": percentile(answered, 95) if answered else None,
            "outstanding": sum(one.sent < end <= one.ended for one in outcomes if one.kind != NOT_SENT),
        })  # fmt: skip
    return found


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    return {f"p{q}": percentile(values, q) for q in (50, 95, 99)} if values else None


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
