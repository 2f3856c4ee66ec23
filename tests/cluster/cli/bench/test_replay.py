"""Replaying a trace: figures by hand, and the loop against the HTTP application in process over fakes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from cluster.cli.bench.replay import Outcome, figures, queue, replay, timeline
from cluster.cli.bench.replay_plot import replay_plot
from cluster.cli.bench.streamed import Reply, streamed
from cluster.cli.bench.trace import Arrival
from cluster.cli.load import chat_of, completion_of, sender
from cluster.core.errors import BadInputError
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import TierState
from tests.fakes import ScriptedTier
from tests.serve_apps.service import Service, on_socket

ARRIVALS = [Arrival(n * 0.02, 100, 12) for n in range(10)]


def nothing() -> None: ...


def answered(due: float, ended: float, sent: float | None = None, first_s: float = 0.0) -> Outcome:
    return Outcome(due, due if sent is None else sent, ended, "answered", "", first_s, 7, 3)


def test_figures_by_hand() -> None:
    found = figures(
        [
            answered(0.0, 0.5, first_s=0.1),
            answered(1.0, 2.5, sent=1.25, first_s=0.25),  # sent late: it counts from when it was due
            answered(2.0, 4.0),
            Outcome(2.0, 2.0, 2.1, "refused", "503"),
            Outcome(3.0, 3.0, 10.0, "failed", "timeout"),
            Outcome(4.0, 4.0, 4.0, "not_sent", "outstanding"),
        ],
        1500,
    )
    counted = ("requests", "answered", "refused", "failed", "not_sent", "good")
    assert [found[name] for name in counted] == [6, 3, 1, 1, 1, 2]
    assert found["codes"] == {"503": 1, "timeout": 1, "outstanding": 1}
    assert (found["seconds"], found["asked_per_s"], found["answered_per_s"]) == (10.0, 1.5, 0.3)
    assert (found["goodput_per_s"], found["goodput_share"]) == (0.2, pytest.approx(1 / 3))
    assert found["whole_ms"] == {"p50": 1500.0, "p95": 2000.0, "p99": 2000.0}
    assert found["first_ms"] == {"p50": 500.0, "p95": 2000.0, "p99": 2000.0}
    assert found["late_ms"] == {"p95": 250.0, "most": 250.0}
    assert found["tokens"] == {"prompt": 9, "answer": 21}


def test_the_queue_by_hand() -> None:
    one_at_a_time = [answered(float(n), n + 1.0) for n in range(10)]
    assert queue(one_at_a_time, 10.0) == {"outstanding_mean": 1.0, "outstanding_most": 1, "waiting_mean": 0.0}
    # Ten at once, served one after the other in a second each: 5.5 are outstanding on average, one is worked on.
    at_once = [answered(0.0, n + 1.0) for n in range(10)]
    assert queue(at_once, 10.0) == {"outstanding_mean": 5.5, "outstanding_most": 10, "waiting_mean": 4.5}


def test_the_timeline_by_hand() -> None:
    steps = timeline([answered(0.0, 0.4), answered(0.9, 2.2), Outcome(2.5, 2.5, 2.6, "refused", "503")], 2.6)
    assert [step["at_s"] for step in steps] == [0, 1, 2]
    assert [step["due"] for step in steps] == [2, 0, 1]
    assert [step["answered"] for step in steps] == [1, 0, 1]
    assert [step["refused"] for step in steps] == [0, 0, 1]
    assert [step["outstanding"] for step in steps] == [1, 1, 0]
    assert [step["p50_ms"] for step in steps] == [400.0, None, pytest.approx(1300.0)]
    long = timeline([answered(0.0, 599.0)], 599.0)
    assert (len(long), long[0]["step_s"]) == (60, 10)


def test_nothing_answered_has_no_percentiles_and_a_picture_all_the_same() -> None:
    found = figures([Outcome(0.0, 0.0, 1.0, "failed", "500")], 1000)
    assert (found["whole_ms"], found["goodput_share"]) == (None, 0.0)
    assert replay_plot({**found, "scale_events": []}, "x").startswith(b"\x89PNG")
    assert figures([], 1000)["seconds"] == 0.0


def test_the_picture_is_the_same_for_the_same_result() -> None:
    events = [{"at_s": 1.5, "deployment": "guard", "before": 1, "after": 2, "why": "load"}]
    found = figures([answered(0.0, 0.5), answered(1.0, 3.0), Outcome(1.0, 1.0, 1.1, "refused", "503")], 1000)
    with_events, without = ({**found, "scale_events": shown} for shown in (events, []))
    assert replay_plot(with_events, "t") == replay_plot(with_events, "t") != replay_plot(without, "t")


async def _run(url: str, send: Any, arrivals: list[Arrival] = ARRIVALS, outstanding: int = 64) -> list[Outcome]:
    return await asyncio.wait_for(replay(url, arrivals, send, outstanding, nothing), 60)


def test_the_loop_is_open_and_bounded() -> None:
    """Nobody is answered until all were sent, so a loop that waited for answers would not come to its end."""
    sent: list[float] = []
    begun = time.perf_counter()

    async def send(client: httpx.AsyncClient, arrival: Arrival) -> Reply:
        sent.append(time.perf_counter() - begun)
        while len(sent) < 6:
            await asyncio.sleep(0.005)
        return Reply(1, 0.001, 0.002)

    found = asyncio.run(_run("http://127.0.0.1:1", send, ARRIVALS[:6]))
    assert [one.kind for one in found] == ["answered"] * 6
    assert all(at >= due for at, due in zip(sent, (one.at_s for one in ARRIVALS), strict=False)), "none is sent early"

    async def hangs(client: httpx.AsyncClient, arrival: Arrival) -> Reply:
        while len(over) < 6:
            await asyncio.sleep(0.005)
        return Reply(1, 0.001, 0.002)

    over: list[int] = []
    counted = replay("http://127.0.0.1:1", ARRIVALS, hangs, 4, lambda: over.append(1))
    found = asyncio.run(asyncio.wait_for(counted, 60))
    assert sorted(one.kind for one in found) == ["answered"] * 4 + ["not_sent"] * 6


@pytest.mark.process
def test_against_the_service_with_what_it_answers_and_what_it_refuses() -> None:
    service = Service()
    with on_socket(service.app()) as url:
        send = sender(chat_of, "auto", ["How do I copy a directory tree?"], 1000)
        found = asyncio.run(_run(url, send))
        assert [one.kind for one in found] == ["answered"] * 10
        assert all(0 < one.first_s <= one.ended - one.sent and 0 < one.tokens <= 12 for one in found)
        assert {what[0].keep for what in service.noted} == {False}, "what a load asks is no gap in the documents"
        service.retriever.down = True
        found = asyncio.run(_run(url, send))
        assert {(one.kind, one.code) for one in found} == {("refused", "503")}
        found = asyncio.run(_run(url, sender(chat_of, "none", ["Where?"], 1000)))
        assert {(one.kind, one.code) for one in found} == {("failed", "404")}
    found = asyncio.run(_run(url, send))
    assert {(one.kind, one.code) for one in found} == {("failed", "ConnectError")}


@pytest.mark.process
def test_a_stream_that_ends_in_an_error_is_no_answer() -> None:
    tier = ScriptedTier(["Some words. " * 20], error=UnavailableError("gone"))
    with on_socket(Service(tier=tier).app()) as url:
        found = asyncio.run(_run(url, sender(chat_of, "quote", ["Where?"], 1000)))
    assert {(one.kind, one.code) for one in found} == {("failed", "stream")}


@pytest.mark.process
def test_plain_prompts_have_the_length_of_the_trace() -> None:
    small = ScriptedTier(["a continuation"], state=TierState("small", continues=True))
    with on_socket(Service(models={"small": small}).app()) as url:
        send = sender(completion_of, "small", ["One question?", "Another one?"], 1000)
        arrivals = [Arrival(0.0, 50, 5), Arrival(0.0, 1, 0), Arrival(0.0, 9000, 5)]
        found = asyncio.run(_run(url, send, arrivals))
    assert [one.kind for one in found] == ["answered"] * 3
    assert sorted(map(len, small.prompts)) == [4, 200, 1000]
    assert any("One question? Another one? One question?" in prompt for prompt in small.prompts)


@pytest.mark.process
def test_a_stream_that_breaks_off_is_no_answer() -> None:
    """What the service never sends: an end without [DONE]."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b'data: {"choices": [{"text": "x"}]}\n\n'})

    async def ask() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await streamed(client, "/v1/completions", {})

    with pytest.raises(BadInputError, match="broke off"):
        asyncio.run(ask())
