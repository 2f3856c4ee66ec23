"""The queue in front of searchers: rounds, order, errors and those who go away. A real thread, searches by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serve_apps.replicas.searches import TOGETHER, Searches
from serve_apps.scaling.load import TEXTS, WAIT, Load


class Bench:
    """A searcher that waits at a gate before its first answer, and remembers what it was given together."""

    def __init__(self) -> None:
        self.load, self.thread = Load(TEXTS), ThreadPoolExecutor(1)
        self.gate, self.rounds, self.searched = threading.Event(), list[list[str]](), list[str]()
        self.ahead_of = list[list[str]]()

    def prepare(self, questions: Sequence[str]) -> None:
        self.rounds.append(list(questions))
        if "poison" in questions:
            raise ValueError("no vector for that")
        self.gate.wait(10)

    def ahead(self, questions: Sequence[str]) -> None:
        self.ahead_of.append(list(questions))

    def search(self, question: str, k: int | None) -> Any:
        self.searched.append(question)
        if question == "poison":
            raise ValueError("no vector for that")
        return f"{question} {k}"


def run(work: Callable[[Bench, Searches], Any]) -> Bench:
    bench = Bench()
    with bench.thread as thread:
        asyncio.run(asyncio.wait_for(work(bench, Searches(thread.submit, bench.prepare, bench.load)), 20))
    assert bench.load.stats()[TEXTS] == 0
    return bench


async def begun(bench: Bench) -> None:
    while not bench.rounds:
        await asyncio.sleep(0)


def test_who_comes_alone_is_searched_at_once_and_who_comes_meanwhile_together() -> None:
    async def work(bench: Bench, searches: Searches) -> None:
        first = asyncio.ensure_future(searches.search(bench, "first", None))
        await begun(bench)
        others = [asyncio.ensure_future(searches.search(bench, f"q{i}", i)) for i in range(TOGETHER + 2)]
        await asyncio.sleep(0)
        assert bench.load.stats()[TEXTS] == TOGETHER + 3
        bench.gate.set()
        assert await first == "first None"
        assert bench.load.stats()[WAIT] > 0
        assert await asyncio.gather(*others) == [f"q{i} {i}" for i in range(TOGETHER + 2)]

    names = [f"q{i}" for i in range(TOGETHER + 2)]
    bench = run(work)
    assert bench.rounds == [["first"], names[:TOGETHER], names[TOGETHER:]]
    assert bench.searched == ["first", *names]
    assert bench.ahead_of == bench.rounds


def test_an_error_is_that_of_its_question_alone() -> None:
    async def work(bench: Bench, searches: Searches) -> None:
        bench.gate.set()
        asked = [searches.search(bench, question, None) for question in ("a", "poison", "b")]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert found[0] == "a None"
        assert isinstance(found[1], ValueError)
        assert found[2] == "b None"
        assert await searches.search(bench, "c", 1) == "c 1"

    run(work)


def test_who_goes_away_while_waiting_is_not_searched() -> None:
    async def work(bench: Bench, searches: Searches) -> None:
        first = asyncio.ensure_future(searches.search(bench, "first", None))
        await begun(bench)
        gone, stays = (asyncio.ensure_future(searches.search(bench, name, None)) for name in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()  # its round is under way: what it finds is for nobody
        with pytest.raises(asyncio.CancelledError):
            await gone
        bench.gate.set()
        assert await stays == "stays None"

    bench = run(work)
    assert "gone" not in bench.searched
    assert bench.rounds == [["first"], ["stays"]]


def test_other_work_of_the_thread_has_its_turn_between_rounds() -> None:
    async def work(bench: Bench, searches: Searches) -> None:
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(searches.search(bench, "first", None))
        await begun(bench)
        embedding = loop.run_in_executor(bench.thread, bench.searched.append, "embedding")
        later = asyncio.ensure_future(searches.search(bench, "later", None))
        await asyncio.sleep(0)
        bench.gate.set()
        await asyncio.gather(first, embedding, later)

    assert run(work).searched == ["first", "embedding", "later"]


def test_a_loop_that_ended_in_the_middle_of_a_round_leaves_the_next_one_free() -> None:
    bench = Bench()

    async def leaves(searches: Searches) -> None:
        asyncio.ensure_future(searches.search(bench, "first", None))  # noqa: RUF006 (left behind on purpose)
        await begun(bench)

    with bench.thread as thread:
        searches = Searches(thread.submit, bench.prepare, bench.load)
        asyncio.run(leaves(searches))
        bench.gate.set()
        found = asyncio.run(asyncio.wait_for(searches.search(bench, "second", None), 20))
    assert found == "second None"
