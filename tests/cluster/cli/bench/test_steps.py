"""Clients in steps: how many ask at once, and the figures by hand."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from cluster.cli.bench.replay import Outcome
from cluster.cli.bench.replay_plot import replay_plot
from cluster.cli.bench.steps import Step, by_step, stepped, steps_of
from cluster.cli.bench.streamed import Reply
from cluster.cli.bench.trace import Arrival
from cluster.core.errors import UsageError


def test_steps_are_written_as_clients_and_seconds() -> None:
    assert steps_of("1:30, 10:2.5,1:60") == [Step(1, 30), Step(10, 2.5), Step(1, 60)]


@pytest.mark.parametrize("text", ["", "1", "1:", "x:1", "1:x", "0:1", "1:0", "1:inf", "1:nan", "1001:1", "1:1,"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        steps_of(text)


def test_as_many_ask_at_once_as_there_are_clients_and_each_again_when_it_was_answered() -> None:
    under_way, most, refused = Counter[int](), dict[int, int](), iter([True])

    async def send(client: httpx.AsyncClient, arrival: Arrival) -> Reply:
        step = int(arrival.at_s / 0.3)  # one that is under way when a step ends is its own
        under_way[step] += 1
        most[step] = max(most.get(step, 0), under_way[step])
        await asyncio.sleep(0.002)
        under_way[step] -= 1
        if step == 1 and next(refused, False):
            raise httpx.HTTPStatusError("", request=httpx.Request("POST", "http://a"), response=httpx.Response(503))
        return Reply(7, 0.001, 0.002)

    counted = []
    steps = [Step(1, 0.3), Step(4, 0.3), Step(2, 0.3)]
    outcomes = asyncio.run(stepped("http://127.0.0.1:1", steps, send, lambda: counted.append(1)))
    assert most == {0: 1, 1: 4, 2: 2}
    assert len(counted) == len(outcomes) > len(steps)
    found = by_step(outcomes, steps)
    assert [step["refused"] for step in found] == [0, 1, 0]
    assert sum(step["answered"] for step in found) == len(outcomes) - 1


def test_figures_of_steps_by_hand() -> None:
    def took(sent: float, seconds: float, kind: str = "answered") -> Outcome:
        return Outcome(sent, sent, sent + seconds, kind)

    outcomes = [took(0.0, 1.0), took(1.0, 1.5), took(2.0, 4.0), took(3.5, 2.0), took(3.6, 0.1, "refused")]
    one, two = by_step(outcomes, [Step(1, 2.0), Step(2, 2.0)])
    assert (one["begin_s"], one["end_s"], two["begin_s"], two["end_s"]) == (0, 2, 2, 4)
    assert (one["answered"], one["p50_ms"], one["p95_ms"]) == (2, 1500.0, 1500.0)
    assert [half["p95_ms"] for half in one["halves"]] == [1000.0, 1500.0]
    assert (two["answered"], two["refused"], two["failed"]) == (2, 1, 0)
    assert [half["p95_ms"] for half in two["halves"]] == [4000.0, 2000.0]
    empty = by_step([], [Step(1, 1.0)])[0]
    assert (empty["answered"], empty["p95_ms"]) == (0, None)


def test_replicas_are_drawn_where_they_changed() -> None:
    step = {"at_s": 0, "step_s": 1, "due": 1, "answered": 1, "refused": 0, "failed": 0, "not_sent": 0, "p50_ms": 1.0,
            "p95_ms": 2.0, "outstanding": 1}  # fmt: skip
    event = {"at_s": 0.5, "deployment": "guard", "before": 1, "after": 2, "why": "load"}
    other = {**event, "at_s": 1.5, "before": 2, "after": 1}
    drawn = [replay_plot({"timeline": [step], "slo_ms": 9, "scale_events": events}, "t")
             for events in ([], [event], [event, other])]  # fmt: skip
    assert len(set(drawn)) == 3
