"""A tier's handle where replicas die: who is asked again, when nobody waits, what is never said twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

pytest.importorskip("ray")
from ray.exceptions import ActorDiedError

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.records import Answer
from cluster.core.sections.scaling import Replicas as ReplicaNumbers
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import UnavailableError
from serve_apps.gateway.handles import (
    ANOTHER_S,
    LONG_CHARS,
    GuardHandle,
    RetrieverHandle,
    TierHandle,
    WholeTierHandle,
)
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


class Deployment:
    """A deployment whose replicas answer once the gate is open; it remembers each call as method and arguments. What
    is asked for ``slow`` never comes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.gate = asyncio.Event()
        self.broken: set[str] = set()

    def options(self, method_name: str = "", **_: Any) -> Any:
        return Method(self, method_name) if method_name else self

    def __getattr__(self, name: str) -> Any:
        return Method(self, name)

    async def answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        self.calls.append((method, arguments))
        if "slow" in str(arguments):
            await asyncio.Event().wait()
        await self.gate.wait()
        if method in self.broken:
            raise ActorDiedError()
        several = method.endswith("_many")
        return [f"{item}" for item in arguments[0]] if several else f"{arguments}"

    @property
    def asked(self) -> list[tuple[str, int]]:
        """Of each call its method, and how many items it was for."""
        return [(method, len(items[0]) if method.endswith("_many") else 1) for method, items in self.calls]


class Method:
    def __init__(self, deployment: Deployment, name: str) -> None:
        self._deployment, self._name = deployment, name

    def remote(self, *arguments: Any, **_: Any) -> Any:
        async def said() -> AsyncGenerator[Any, None]:
            await self._deployment.answer(self._name, arguments)
            yield Answer(arguments[0])

        return Response(said if self._name == "stream" else lambda: self._deployment.answer(self._name, arguments))


def in_time(work: Any) -> None:
    async def scene() -> None:
        await asyncio.wait_for(work(), 20)

    asyncio.run(scene())


async def begun(*calls: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(one) for one in calls]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def test_checks_that_meet_busy_guards_go_together_both_ways_and_long_ones_alone() -> None:
    async def scene() -> None:
        deployment = Deployment()
        guard = GuardHandle(deployment, 2)  # type: ignore[arg-type]
        texts = [
            guard.check_input(["a"]),
            guard.check_output(["b"]),
            guard.check_input(["c"], prompts=False),
            guard.check_output(["d"]),
        ]
        tasks = await begun(*texts, guard.check_input(["long" * LONG_CHARS]))
        deployment.gate.set()
        await asyncio.gather(*tasks)
        assert deployment.asked == [("check_input", 1), ("check_output", 1), ("check_input", 1), ("check_many", 2)]
        ((_, (together,)),) = [call for call in deployment.calls if call[0] == "check_many"]
        assert [(texts, more) for _, texts, more in together] == [(["c"], {"prompts": False}), (["d"], {})]

    in_time(scene)


def test_checks_go_alone_where_the_number_of_guards_follows_the_calls_under_way() -> None:
    async def scene() -> None:
        deployment = Deployment()
        guard = GuardHandle(deployment, ReplicaNumbers(min=1, max=4).fixed)  # type: ignore[arg-type]
        tasks = await begun(*(guard.check_input([f"{n}"]) for n in range(20)))
        deployment.gate.set()
        await asyncio.gather(*tasks)
        assert deployment.asked == [("check_input", 1)] * 20
        assert ReplicaNumbers(min=2, max=2).fixed == 2

    in_time(scene)


def test_searches_go_together_with_those_of_the_same_collection_and_rights_only() -> None:
    async def scene() -> None:
        deployment, acme = Deployment(), Rights("acme")
        retriever = RetrieverHandle(deployment, 1)  # type: ignore[arg-type]
        stuck = await begun(*(retriever.search(f"q{n}", None, "slow") for n in range(5)))
        tasks = await begun(
            *(retriever.search(f"q{n}", None, "main") for n in range(5)), retriever.search("q", 3, "main", acme)
        )
        deployment.gate.set()
        found = await asyncio.gather(*tasks)
        assert "q4" in str(found[4])
        assert deployment.asked[2:] == [("search", 1), ("search", 1), ("search", 1), ("search_many", 3)]
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
        await retriever.search("q", None, "other")
        assert list(retriever._searches) == [("other", NO_RIGHTS)], "what nobody waits for is forgotten"

    in_time(scene)


def test_answers_that_are_ready_at_once_are_given_together_and_alone_where_that_fails() -> None:
    async def scene() -> None:
        deployment = Deployment()
        deployment.broken.add("answer_many")
        tier = WholeTierHandle(THERE, deployment, 1)  # type: ignore[arg-type]

        async def answer(question: str) -> list[Any]:
            return [item async for item in tier.stream(question, Retrieval(question), Sampling())]

        tasks = await begun(*(answer(f"q{n}") for n in range(4)))
        assert tier.state.ongoing == 4
        deployment.gate.set()
        assert await asyncio.gather(*tasks) == [[Answer(f"q{n}")] for n in range(4)]
        assert deployment.asked == [("stream", 1), ("stream", 1), ("answer_many", 2), ("stream", 1), ("stream", 1)]
        assert tier.state.ongoing == 0

    in_time(scene)
