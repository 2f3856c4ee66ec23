"""What breaks on the way: closed before the stream, an error event inside it, never unchecked text or a clean cut."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from cluster.core.errors import BadInputError, PlinthError, PolicyRefusedError
from cluster.core.records import Verdict
from cluster.core.sections.serve import ServeSection
from serve_apps.errors import UnavailableError
from serve_apps.guards.personal import LONGEST
from serve_apps.guards.protocol import InputCheck, OutputCheck
from tests.fakes import TEXT, FixedRetriever, RealGuard, ScriptedTier
from tests.serve_apps.api.test_bad_bodies import GOOD, check_error
from tests.serve_apps.api.test_openai_http import events_of
from tests.serve_apps.service import CHAT, Service

STREAM = {**CHAT, "stream": True}
LONG = [f"sentence {n} of a long answer that goes on and on. " for n in range(40)]
QUICK = ServeSection(guard_timeout_s=0.05, request_timeout_s=0.3)


class Exchange:
    """One request at the ASGI border, so that time, disconnects and single messages are in the test's hands."""

    def __init__(self, service: Service, body: dict[str, Any], path: str = "/v1/chat/completions") -> None:
        self.service, self.app = service, service.app()
        self.sent: list[Message] = []
        self.leave = asyncio.Event()
        self._body: bytes | None = json.dumps(body).encode()
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
            "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self) -> None:
        await asyncio.wait_for(self.app(self._scope, self._receive, self._send), 10)

    @property
    def wire(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def ended(self) -> bool:
        return bool(self.sent) and self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "broken",
    [
        {"guard": RealGuard(fail_input=True)},
        {"guard": RealGuard(fail_after=0)},
        {"guard": RealGuard(delay_s=5), "section": QUICK},
        {"retriever": FixedRetriever(down=True)},
        {"tier": ScriptedTier(deltas=[], error=UnavailableError("no replica"))},
        {"tier": ScriptedTier(deltas=[], error=ConnectionResetError("gone"))},
        {"tier": ScriptedTier(breaks_off=True)},
    ],
    ids=["guard in", "guard out", "guard slow", "retriever", "tier", "tier connection", "tier breaks off"],
)
def test_down_before_the_first_byte_is_a_503(body: dict[str, Any], broken: dict[str, Any]) -> None:
    service = Service(**broken)
    response = service.client().post("/v1/chat/completions", json=body)
    error = check_error(response, 503)
    assert (error["type"], error["code"]) == ("service_unavailable", "server_is_overloaded")
    assert response.headers["retry-after"] == "1"
    assert TEXT[:20] not in response.text
    assert (service.log[-1]["status"], service.log[-1]["route"]) == (503, "/v1/chat/completions")
    assert service.log[-1]["error"]


@pytest.mark.parametrize("route", GOOD)
def test_every_route_fails_closed_without_a_guard(route: str) -> None:
    check_error(Service(guard=RealGuard(fail_input=True)).client().post(route, json=GOOD[route]), 503)


def test_search_fails_closed_without_an_output_guard() -> None:
    response = Service(guard=RealGuard(fail_after=0)).client().post("/v1/search", json={"query": "x"})
    check_error(response, 503)


@pytest.mark.parametrize(
    "broken",
    [
        {"guard": RealGuard(fail_after=2)},
        {"tier": ScriptedTier(LONG, error=UnavailableError("replica died"))},
        {"tier": ScriptedTier(LONG, error=ConnectionResetError("gone"))},
        {"tier": ScriptedTier(LONG, breaks_off=True)},
    ],
    ids=["guard", "tier", "connection", "breaks off"],
)
def test_failure_inside_a_stream_ends_in_an_error_event(broken: dict[str, Any]) -> None:
    service = Service(**{"tier": ScriptedTier(LONG), **broken})
    response = service.client().post("/v1/chat/completions", json=STREAM)
    assert response.status_code == 200
    *chunks, last = events_of(response.text)
    assert set(last) == {"error"}
    assert last["error"]["code"] == "server_is_overloaded"
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text
    assert "".join(LONG).startswith(text)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    checked = "".join(LONG).index(service.guard.seen_out[-1]) + len(service.guard.seen_out[-1])
    assert len(text) <= checked - LONGEST, "what was held back stays back"
    assert service.log[-1]["code"] == "server_is_overloaded"


def test_text_leaves_only_after_its_check() -> None:
    """At every moment the bytes on the wire are a prefix of what the guard has seen."""

    async def scene() -> None:
        service = Service(tier=ScriptedTier(LONG, pause_s=0.001))
        exchange = Exchange(service, STREAM)
        seen_before: list[int] = []
        send = exchange._send

        async def spying(message: Message) -> None:
            seen_before.append(len(service.guard.seen_out))
            await send(message)

        exchange._send = spying  # type: ignore[method-assign]
        await exchange.run()
        assert exchange.ended
        assert seen_before[0] >= 1, "nothing leaves before the first check"
        assert len(exchange.sent) > 4, "it did stream"

    asyncio.run(scene())


def test_a_bug_is_a_500_without_internals() -> None:
    service = Service(tier=ScriptedTier(deltas=[], error=ZeroDivisionError("secret detail")))
    error = check_error(service.client().post("/v1/chat/completions", json=CHAT), 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in error["message"]
    assert "secret detail" in service.log[-1]["error"]
    assert service.log[-1]["status"] == 500


def test_a_bug_inside_a_stream_cuts_the_connection() -> None:
    async def scene() -> None:
        service = Service(tier=ScriptedTier(LONG, error=ZeroDivisionError("bug")))
        exchange = Exchange(service, STREAM)
        with pytest.raises(ZeroDivisionError):
            await exchange.run()
        assert exchange.wire.startswith(b"data: ")
        assert not exchange.ended, "a clean end would pass for the whole answer"
        assert b"[DONE]" not in exchange.wire
        assert service.tier.closed == 1
        assert "ZeroDivisionError" in service.log[-1]["error"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadInputError("text too long for the embedder", param="input"), 400, None),
        (PolicyRefusedError("not allowed"), 400, "content_policy_violation"),
        (PlinthError("a bug"), 500, "internal_error"),
    ],
)
def test_errors_of_collaborators_keep_their_meaning(error: Exception, status: int, code: str | None) -> None:
    service = Service(tier=ScriptedTier(deltas=[], error=error))
    assert check_error(service.client().post("/v1/chat/completions", json=CHAT), status)["code"] == code


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_the_deadline_is_a_504_that_is_not_retried(body: dict[str, Any]) -> None:
    service = Service(tier=ScriptedTier(pause_s=5), section=QUICK)
    response = service.client().post("/v1/chat/completions", json=body)
    error = check_error(response, 504)
    assert (error["type"], error["code"]) == ("timeout", "timeout")
    assert response.headers["x-should-retry"] == "false"
    assert service.tier.closed == 1
    assert service.log[-1]["status"] == 504


def test_the_deadline_inside_a_stream() -> None:
    async def scene() -> None:
        gate = asyncio.Event()
        gate.set()
        tier = ScriptedTier(LONG, gate=gate, pause_s=0.001)
        service = Service(tier=tier, section=ServeSection(request_timeout_s=0.3))
        exchange = Exchange(service, STREAM)
        running = asyncio.create_task(exchange.run())
        await until(lambda: len(exchange.sent) > 2)
        gate.clear()
        await running
        last = events_of(exchange.wire.decode())[-1]
        assert last["error"]["code"] == "timeout"
        assert exchange.ended
        assert tier.closed == 1

    asyncio.run(scene())


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_a_client_that_leaves_cancels_the_work(body: dict[str, Any]) -> None:
    async def scene() -> None:
        service = Service(tier=ScriptedTier(gate=asyncio.Event()))
        exchange = Exchange(service, body)
        running = asyncio.create_task(exchange.run())
        await until(lambda: bool(service.tier.questions))
        exchange.leave.set()
        await running
        assert service.tier.closed == 1
        assert service.log[-1]["status"] == 499
        assert len(asyncio.all_tasks()) == 1, "nothing is left running"

    asyncio.run(scene())


def test_a_client_that_leaves_in_mid_stream_cancels_the_work() -> None:
    async def scene() -> None:
        gate = asyncio.Event()
        gate.set()
        service = Service(tier=ScriptedTier(LONG * 1000, gate=gate, pause_s=0.001))
        exchange = Exchange(service, STREAM)
        running = asyncio.create_task(exchange.run())
        await until(lambda: len(exchange.sent) > 3)
        exchange.leave.set()
        await asyncio.gather(running, return_exceptions=True)
        assert service.tier.closed == 1
        assert not exchange.ended
        assert service.log[-1]["status"] == 499
        assert service.log[-1]["error"] is None

    asyncio.run(scene())


def test_a_cancelled_request_still_writes_its_line() -> None:
    async def scene() -> None:
        service = Service(tier=ScriptedTier(gate=asyncio.Event()))
        running = asyncio.create_task(Exchange(service, CHAT).run())
        await until(lambda: bool(service.tier.questions))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert service.tier.closed == 1
        assert service.log[-1]["status"] == 499

    asyncio.run(scene())


def test_a_body_that_never_ends_is_a_408() -> None:
    async def scene() -> None:
        service = Service(section=ServeSection(body_timeout_s=0.05))
        exchange = Exchange(service, CHAT)

        async def dribble() -> Message:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b" ", "more_body": not exchange.leave.is_set()}

        exchange._receive = dribble  # type: ignore[method-assign]
        running = asyncio.create_task(exchange.run())
        await until(lambda: len(exchange.sent) > 1)
        exchange.leave.set()
        await running
        assert exchange.sent[0]["status"] == 408
        assert (b"connection", b"close") in exchange.sent[0]["headers"]

    asyncio.run(scene())


class BlockingGuard(RealGuard):
    """Blocks one word, on the way in and on the way out."""

    async def check_input(self, texts: list[str], prompts: bool = True) -> list[InputCheck]:
        block = Verdict("guard_in", "block", "forbidden", "it holds a forbidden word")
        return [InputCheck("", (block,)) if "forbidden" in text else InputCheck(text) for text in texts]

    async def check_output(self, texts: list[str]) -> list[OutputCheck]:
        block = Verdict("guard_out", "block", "forbidden", "it holds a forbidden word")
        return [OutputCheck(verdicts=(block,)) if "forbidden" in text else OutputCheck() for text in texts]


def test_blocked_input_is_a_400_with_its_rule() -> None:
    asked = {**CHAT, "messages": [{"role": "user", "content": "a forbidden question"}]}
    service = Service(guard=BlockingGuard())
    error = check_error(service.client().post("/v1/chat/completions", json=asked))
    assert error["code"] == "content_policy_violation"
    assert "forbidden" in error["message"]
    assert service.tier.questions == []
    assert service.log[-1]["verdicts"] == ["guard_in:block:forbidden"]


@pytest.mark.parametrize("deltas", [["a forbidden answer"], [*LONG, "forbidden", *LONG]], ids=["short", "long"])
def test_blocked_output_ends_as_content_filter(deltas: list[str]) -> None:
    service = Service(guard=BlockingGuard(), tier=ScriptedTier(deltas))
    whole = service.client().post("/v1/chat/completions", json=CHAT).json()
    assert whole["choices"][0]["finish_reason"] == "content_filter"
    assert whole["plinth"]["citations"] == []
    response = service.client().post("/v1/chat/completions", json=STREAM)
    assert "forbidden" not in whole["choices"][0]["message"]["content"]
    *chunks, done = events_of(response.text)
    assert done == "[DONE]"
    assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert "forbidden answer" not in response.text


SECRET = "jane.doe@mail.acme.io"
PERSONAL = f"{'Write to the maintainer. ' * 12}It is {SECRET}, or call +1 212 555 0187. {'That is all. ' * 30}"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(PERSONAL)), max_size=30))
def test_personal_data_split_over_chunks_never_reaches_the_wire(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), len(PERSONAL)]
    tier = ScriptedTier([PERSONAL[begin:end] for begin, end in itertools.pairwise(edges)])

    async def scene() -> bytes:
        exchange = Exchange(Service(tier=tier), STREAM)
        await exchange.run()
        return exchange.wire

    wire = asyncio.run(scene())
    chunks = [event for event in events_of(wire.decode()) if event != "[DONE]"]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert not any(digits in text for digits in ("212", "0187"))
    for piece in (b"jane", b"doe@", b"mail.acme", b"555 0"):  # ids and times are digits too, so none of those alone
        assert piece not in wire
    assert text == PERSONAL.replace(SECRET, "<EMAIL_1>").replace("+1 212 555 0187", "<PHONE_1>")
    rules = {verdict["rule"] for verdict in chunks[-1]["plinth"]["verdicts"]}
    assert rules >= {"pii_email", "pii_phone"}
