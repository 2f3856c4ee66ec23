"""What is known about one request when it ends: one log line and the metrics, whatever broke. Never prompt text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.core.identity import LOCAL, Principal
from cluster.core.records import Verdict
from cluster.core.telemetry import log_event
from cluster.core.trace import Trace
from serve_apps.gateway.protocols import Recorder

if TYPE_CHECKING:
    from serve_apps.gateway.admission import Place
    from serve_apps.gateway.budget import Reserved
    from serve_apps.gateway.turns import Turn

CLIENT_GONE = 499
NO_TIER = "none"  # the label of what no tier had a part in
# Why requests get no further than the door: a closed set, as each is a label of a metric.
NOT_LET_IN = frozenset({
    "invalid_api_key", "too_many_refused", "scope_missing", "cross_site_request", "host_not_allowed",
    "headers_too_large",
})  # fmt: skip
# Why somebody was not recognised: likewise. No page counts that was asked for without a session.
AUTH_FAILURES = frozenset({"no_key", "unknown_key", "revoked_key", "expired_key", "session_ended", "no_code"})
CROWD = "crowd"  # likewise: too many wait already
OFF, HIT, MISS, BYPASS = "off", "hit", "miss", "bypass"  # what the kept answers were to a request


@dataclass
class RequestRecord:
    """Filled in along the way by everything that handles the request; times in milliseconds. ``route`` is the label of
    one of the service's routes, or ``other``; ``collection`` what the client asked, and once that was searched, what
    answered; ``collection_param`` the field that names it. ``anew``: the client does not want a kept answer; ``cache``
    is what it got, ``alike`` the cosine where it is the answer to another question. ``degraded``: why the answer is
    less than it should be. ``unrecognised``: why nobody was recognised. ``principal``: whom it comes from;
    ``reserved``: what of whose budget, until it is settled; ``rate_limits``: headers of the reply; ``said``: the text
    that the client got so far; ``documents``: those (id, source) the answer was made of, ``labelled``: not everybody
    may read all of them; ``admission``: what has to be done before the answer begins (``audit_trail``); ``place``: in
    the queue, until its turn came; ``turned_away``: there was none; ``turn``: among those that are worked on."""

    request_id: str
    method: str = ""
    route: str = "other"
    logged: bool = True
    trace: Trace = field(default_factory=Trace.new)
    client_request_id: str | None = None
    status: int = 0
    code: str | None = None
    error: str | None = None
    unrecognised: str = ""
    stream: bool | None = None
    model: str | None = None
    tier: str | None = None
    routed: str | None = None
    degraded: str = ""
    grounded: bool | None = None
    reason: str | None = None
    model_version: str | None = None
    index_version: str | None = None
    documents: tuple[tuple[str, str], ...] = ()
    labelled: bool = False
    collection: str = ""
    collection_param: str | None = None
    principal: Principal = LOCAL
    reserved: Reserved | None = None
    rate_limits: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    admission: asyncio.Task[None] | None = None
    place: Place | None = None
    turned_away: bool = False
    turn: Turn | None = None
    anew: bool = False
    cache: str = OFF
    alike: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_text_ms: float | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)

    @property
    def tenant(self) -> str:
        """Whose documents, budget and kept answers the request uses."""
        return self.principal.tenant

    async def admitted(self) -> None:
        """Return once the answer may begin. UnavailableError: it may not."""
        if self.admission is not None:
            await self.admission

    def had_its_turn(self) -> None:
        """Make room for others: what is left to do waits for nobody."""
        if self.place is not None:
            self.place.leave()
        self.end_turn()

    def end_turn(self) -> None:
        """Let others be worked on. Later calls do nothing."""
        if self.turn is not None:
            self.turn.over()

    @property
    def answer_id(self) -> str:
        """The id of the answer to this request."""
        return self.request_id.replace("req_", "ans_", 1)

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the request began."""
        return (time.perf_counter() - self.begun) * 1000

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time the block takes to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            ended = time.perf_counter()
            self.stages[name] = self.stages.get(name, 0.0) + (ended - begun) * 1000
            self.intervals[name] = (self.intervals.get(name, (begun,))[0], ended)

    def judged(self, verdicts: tuple[Verdict, ...]) -> None:
        """Keep verdicts, each (stage, action, rule) once."""
        known = {(v.stage, v.action, v.rule) for v in self.verdicts}
        for verdict in verdicts:
            if (verdict.stage, verdict.action, verdict.rule) not in known:
                known.add((verdict.stage, verdict.action, verdict.rule))
                self.verdicts.append(verdict)

    def timings(self) -> dict[str, float]:
        """Milliseconds by stage, and ``total`` so far; rounded to microseconds."""
        return {name: round(ms, 3) for name, ms in {**self.stages, "total": self.elapsed_ms}.items()}


def each(*told: Callable[[RequestRecord], None]) -> Callable[[RequestRecord], None]:
    """Tells all of them."""

    def tell(record: RequestRecord) -> None:
        for one in told:
            one(record)

    return tell


class Journal:
    """Writes a finished record. ``write`` is ``telemetry.log_event``; ``recorder`` takes the metrics, ``also`` is told
    of every record that is logged (``request_spans`` makes spans of it)."""

    def __init__(
        self,
        recorder: Recorder,
        write: Callable[..., None] = log_event,
        also: Callable[[RequestRecord], None] = lambda record: None,
    ) -> None:
        self._recorder, self._write, self._also = recorder, write, also

    def close(self, record: RequestRecord) -> None:
        """One line and the metrics. Where routes are not ``logged`` (probes, the page) only failures have a line, and
        a crowd that is turned away has none: it is counted."""
        self._measure(record)
        if record.turned_away or (not record.logged and record.status < 500):
            return
        self._also(record)
        self._write(
            "gateway",
            "request",
            request_id=record.request_id,
            trace_id=record.trace.trace_id,
            client_request_id=record.client_request_id,
            method=record.method,
            route=record.route,
            status=record.status,
            code=record.code,
            error=record.error,
            stream=record.stream,
            model=record.model,
            tier=record.tier,
            routed=record.routed,
            degraded=record.degraded or None,
            grounded=record.grounded,
            reason=record.reason,
            index_version=record.index_version,
            collection=record.collection or None,
            cache=None if record.cache == OFF else record.cache,
            alike=record.alike,
            prompt_tokens=record.prompt_tokens,
            completion_tokens=record.completion_tokens,
            first_text_ms=None if record.first_text_ms is None else round(record.first_text_ms, 3),
            verdicts=[f"{v.stage}:{v.action}:{v.rule}" for v in record.verdicts],
            timings_ms=record.timings(),
        )

    def _measure(self, record: RequestRecord) -> None:
        send, tier = self._recorder.record, record.tier or NO_TIER
        send("plinth_requests_total", 1, {"route": record.route, "status": str(record.status)})
        send("plinth_request_ms", record.elapsed_ms, {"route": record.route, "tier": tier})
        if record.turned_away or record.code in NOT_LET_IN:
            send("plinth_refused_total", 1, {"reason": CROWD if record.turned_away else str(record.code)})
        if record.unrecognised in AUTH_FAILURES:
            send("plinth_auth_failures_total", 1, {"reason": record.unrecognised})
        for stage, ms in record.stages.items():
            send("plinth_stage_ms", ms, {"stage": stage, "tier": tier})
        for verdict in record.verdicts:
            labels = {"stage": verdict.stage, "action": verdict.action, "rule": verdict.rule}
            send("plinth_verdicts_total", 1, labels)
        if record.cache != OFF:
            outcome = record.cache if record.alike is None else "alike"
            send("plinth_cache_requests_total", 1, {"outcome": outcome, "tier": tier})
        if record.first_text_ms is not None:
            send("plinth_first_text_ms", record.first_text_ms, {"tier": tier})
        for kind, count in (("prompt", record.prompt_tokens), ("completion", record.completion_tokens)):
            if count:
                send("plinth_tokens_total", count, {"tier": tier, "kind": kind})
        if record.tier and record.grounded is not None:
            labels = {"tier": record.tier, "grounded": str(record.grounded).lower(), "reason": record.reason or ""}
            send("plinth_answers_total", 1, labels)
