"""A tier's handle where replicas die: who is asked again, when nobody waits, what is never said twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

pytest.importorskip("ray")
from ray.exceptions import ActorDiedError

from cluster.core.records import Answer
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import UnavailableError
from serve_apps.gateway.handles import ANOTHER_S, TierHandle
from serve_apps.gateway.protocols import Sampling, TierState

pytestmark = pytest.mark.process
THERE = TierState("small", model_version="m1")
UNKNOWN = TierState("small", ready=False, earned=False)


class Response:
    """One call of a replica: its state, or what it says."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self.cancelled = work, False

    def __await__(self) -> Any:
        return self._work().__await__()

    def __aiter__(self) -> Any:
        return self._work()

    def cancel(self) -> None:
        self.cancelled = True


class Replicas:
    """A deployment's handle: each call meets the next replica of the script. ``dead``: it has died; ``gone``: there is
    none, and Serve waits for one; ``breaks``: it dies after its first word; anything else answers."""

    def __init__(self, *script: str) -> None:
        self.script, self.asked = list(script), 0

    def options(self, **_: Any) -> Replicas:
        return self

    @property
    def state(self) -> Any:
        return self._call(self._state)

    @property
    def stream(self) -> Any:
        return self._call(self._say)

    def _call(self, work: Callable[[str], Any]) -> Any:
        class Remote:
            @staticmethod
            def remote(*_: Any, **__: Any) -> Response:
                self.asked += 1
                kind = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                return Response(lambda: work(kind))

        return Remote

    async def _state(self, kind: str) -> TierState:
        await self._meet(kind)
        return THERE

    async def _say(self, kind: str) -> AsyncGenerator[str | Answer, None]:
        await self._meet(kind)
        yield "word "
        if kind == "breaks":
            raise ActorDiedError()
        yield Answer("word ")

    async def _meet(self, kind: str) -> None:
        if kind == "gone":
            await asyncio.Event().wait()
        if kind == "dead":
            raise ActorDiedError()


async def said(tier: TierHandle) -> list[str | Answer]:
    return [item async for item in tier.stream("q", Retrieval("q"), Sampling())]


def took(work: Any) -> tuple[Any, float]:
    began = time.monotonic()
    return asyncio.run(work), time.monotonic() - began


def test_where_a_replica_died_before_its_first_word_another_one_answers() -> None:
    replicas = Replicas("dead", "there", "there")
    assert asyncio.run(said(TierHandle(THERE, replicas, follows=True)))[0] == "word "  # type: ignore[arg-type]
    assert replicas.asked == 3, "the dead one, who else is there, and that one"


def test_where_there_is_no_other_replica_it_is_said_at_once() -> None:
    async def scene() -> None:
        tier = TierHandle(THERE, Replicas("dead", "gone"), follows=True)  # type: ignore[arg-type]
        with pytest.raises(UnavailableError, match="ActorDied"):
            await said(tier)

    assert took(scene())[1] < ANOTHER_S + 0.4


def test_what_was_said_is_not_said_again() -> None:
    async def scene() -> list[Any]:
        heard: list[Any] = []
        tier = TierHandle(THERE, Replicas("breaks", "there"), follows=True)  # type: ignore[arg-type]

        async def listen() -> None:
            async for item in tier.stream("q", Retrieval("q"), Sampling()):
                heard.append(item)

        with pytest.raises(UnavailableError):
            await listen()
        return heard

    assert asyncio.run(scene()) == ["word "]


def test_two_deaths_in_a_row_are_one_too_many() -> None:
    async def scene() -> None:
        tier = TierHandle(THERE, Replicas("dead", "there", "dead", "there"), follows=True)  # type: ignore[arg-type]
        with pytest.raises(UnavailableError):
            await said(tier)

    asyncio.run(scene())


def test_a_tier_is_not_lost_by_the_death_of_one_of_its_replicas() -> None:
    async def scene() -> TierState:
        tier = TierHandle(UNKNOWN, Replicas("dead", "there"), follows=True)  # type: ignore[arg-type]
        await tier.refresh()
        return tier.state

    assert asyncio.run(scene()).ready


def test_who_asks_a_tier_that_is_gone_hardly_waits_and_finds_it_when_it_is_back() -> None:
    async def scene() -> tuple[list[float], list[bool]]:
        replicas = Replicas("there", "dead", "gone")
        tier = TierHandle(UNKNOWN, replicas, follows=True)  # type: ignore[arg-type]
        waits, ready = [], []
        for turn in range(4):
            tier._asked_at -= 10.0  # a silence
            began = time.monotonic()
            await tier.refresh()
            waits.append(time.monotonic() - began)
            ready.append(tier.state.ready)
            if turn == 2 and tier._asking is not None:
                tier._asking.cancel()  # as if its time were up
                await asyncio.wait({tier._asking})
                replicas.script = ["there"]
        return waits, ready

    waits, ready = asyncio.run(scene())
    assert ready == [True, False, False, True]
    assert waits[1] < ANOTHER_S + 0.4
    assert waits[2] < 0.5
