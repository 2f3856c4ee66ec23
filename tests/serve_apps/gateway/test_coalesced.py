"""Calls that go together: who goes alone, who waits, whose error is whose, and what giving up does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from serve_apps.gateway.coalesced import Coalesced

WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Other:
    """What is called: answers once the gate is open, and remembers each call. Items named ``poison`` break a call
    that they are in; of the calls in ``failing`` nothing comes back."""

    def __init__(self) -> None:
        self.calls, self.who = list[list[str]](), list[str]()
        self.gate, self.cancelled = asyncio.Event(), list[list[str]]()

    async def _call(self, items: list[str]) -> None:
        self.calls.append(items)
        self.who.append(WHO.get())
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(items)
            raise
        if "poison" in items:
            raise ValueError("poison")

    async def alone(self, item: str) -> str:
        await self._call([item])
        return item.upper()

    async def together(self, items: list[str]) -> Sequence[str | BaseException]:
        await self._call(items)
        return [KeyError(item) if item == "wrong" else item.upper() for item in items]


def run(work: Callable[[Other, Coalesced[str, str]], Awaitable[Any]], lanes: int = 1, most: int = 3) -> Other:
    async def scene() -> Other:
        other = Other()
        joined = Coalesced(other.alone, other.together, lanes, most)
        await asyncio.wait_for(work(other, joined), 20)
        assert joined.idle
        return other

    return asyncio.run(scene())


async def started(joined: Coalesced[str, str], *items: str) -> list[asyncio.Task[str]]:
    found = [asyncio.ensure_future(joined.call(item)) for item in items]
    await asyncio.sleep(0)
    return found


def test_who_meets_a_free_lane_goes_alone_and_who_comes_meanwhile_together() -> None:
    async def work(other: Other, joined: Coalesced[str, str]) -> None:
        calls = await started(joined, "a", "b", "c", "d", "e", "f")
        assert other.calls == [["a"], ["b"]], "two lanes"
        other.gate.set()
        assert await asyncio.gather(*calls) == ["A", "B", "C", "D", "E", "F"]
        assert await joined.call("g") == "G"

    assert run(work, lanes=2).calls == [["a"], ["b"], ["c", "d", "e"], ["f"], ["g"]]


def test_an_error_is_that_of_its_item_alone() -> None:
    async def work(other: Other, joined: Coalesced[str, str]) -> None:
        calls = await started(joined, "first", "right", "wrong")
        other.gate.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert found[:2] == ["FIRST", "RIGHT"]
        assert isinstance(found[2], KeyError)
        with pytest.raises(ValueError, match="poison"):
            await joined.call("poison")

    run(work)


def test_where_a_call_of_several_breaks_each_is_called_for_alone() -> None:
    async def work(other: Other, joined: Coalesced[str, str]) -> None:
        calls = await started(joined, "first", "a", "poison", "b")
        other.gate.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(one) for one in found] == ["FIRST", "A", "poison", "B"]

    assert run(work).calls == [["first"], ["a", "poison", "b"], ["a"], ["poison"], ["b"]]


def test_an_answer_of_another_length_is_no_answer() -> None:
    async def work(other: Other, joined: Coalesced[str, str]) -> None:
        async def short(items: list[str]) -> Sequence[str | BaseException]:
            await other.together(items)
            return ["ONE"]

        joined._together = short
        calls = await started(joined, "first", "a", "b")
        other.gate.set()
        assert await asyncio.gather(*calls) == ["FIRST", "A", "B"]

    assert run(work).calls[1:] == [["a", "b"], ["a"], ["b"]]


def test_who_gives_up_while_waiting_is_left_out() -> None:
    async def work(other: Other, joined: Coalesced[str, str]) -> None:
        first, gone, stays = await started(joined, "first", "gone", "stays")
        gone.cancel()
        await asyncio.sleep(0)
        other.gate.set()
        assert await asyncio.gather(first, stays) == ["FIRST", "STAYS"]

    assert run(work).calls == [["first"], ["stays"]]


def test_a_call_ends_when_all_who_wait_for_it_gave_up_and_makes_room() -> None:
    async def work(other: Other, joined: Coalesced[str, str]) -> None:
        (first,) = await started(joined, "first")
        calls = await started(joined, "a", "b", "c", "later")
        first.cancel()
        await asyncio.sleep(0.01)
        assert other.calls == [["first"], ["a", "b", "c"]]
        calls[0].cancel()
        await asyncio.sleep(0.01)
        assert other.cancelled == [["first"]], "the others still wait"
        calls[1].cancel()
        calls[2].cancel()
        await asyncio.sleep(0.01)
        assert other.cancelled == [["first"], ["a", "b", "c"]]
        other.gate.set()
        assert await calls[3] == "LATER"

    run(work)


def test_a_call_of_several_belongs_to_nobody_s_request() -> None:
    async def work(other: Other, joined: Coalesced[str, str]) -> None:
        async def as_somebody(name: str) -> str:
            WHO.set(name)
            return await joined.call(name)

        calls = [asyncio.ensure_future(as_somebody(name)) for name in ("ann", "bob", "cy")]
        await asyncio.sleep(0)
        other.gate.set()
        assert await asyncio.gather(*calls) == ["ANN", "BOB", "CY"]

    assert run(work).who == ["ann", "nobody"]
