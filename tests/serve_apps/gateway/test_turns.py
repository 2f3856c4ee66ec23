"""Who works when more want to than may: each key in its turn."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.sections.serve import ServeSection
from serve_apps.gateway import turns as module
from serve_apps.gateway.turns import BESIDE_S, CROWD, Turns
from tests.fakes import FixedRetriever, ScriptedTier
from tests.serve_apps.service import CHAT, Service, eventually, on_socket


async def settled() -> None:
    """Until nobody goes on by himself."""
    for _ in range(10):
        await asyncio.sleep(0)


class Crowd:
    """Works for as long as it is not told to be done; notes who began."""

    def __init__(self, most: int) -> None:
        self.now = 0.0
        self.turns, self.began, self.working = Turns(most, lambda: self.now), list[str](), Counter[str]()
        self._done = {key: asyncio.Semaphore(0) for key in ("loud", "louder", "quiet", *"abc")}

    async def work(self, key: str) -> None:
        turn = await self.turns.come(key)
        try:
            self.began.append(key)
            self.working[key] += 1
            await self._done[key].acquire()
        finally:
            self.working[key] -= 1
            turn.over()

    async def one_is_done(self, key: str) -> None:
        self._done[key].release()
        await settled()


async def come(crowd: Crowd, *keys: str) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(crowd.work(key)) for key in keys]
    await settled()
    return tasks


def test_one_question_of_another_key_waits_for_one_turn_and_not_for_two_hundred() -> None:
    async def runs() -> None:
        crowd = Crowd(2)
        tasks = await come(crowd, *["loud"] * 200)
        tasks += await come(crowd, "quiet")
        assert crowd.began == ["loud", "loud"]
        await crowd.one_is_done("loud")
        assert crowd.began == ["loud", "loud", "quiet"], "who has none at work is first"
        await crowd.one_is_done("quiet")
        for _ in range(199):
            await crowd.one_is_done("loud")
        await asyncio.gather(*tasks)
        assert len(crowd.began) == 201
        (await crowd.turns.come("later")).over()  # and there is room again

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_three_keys_have_turns_one_after_the_other() -> None:
    async def runs() -> None:
        crowd = Crowd(1)
        tasks = await come(crowd, *"aaaabbc")
        for _ in range(7):
            await crowd.one_is_done(crowd.began[-1])
        await asyncio.gather(*tasks)
        assert "".join(crowd.began) == "aabcaba"

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_beside_somebody_who_asks_now_and_then_a_crowd_has_its_share() -> None:
    """Alone it has every turn, and a while after the other has gone again; two crowds share them."""

    async def runs() -> None:
        crowd = Crowd(16)
        tasks = await come(crowd, *["loud"] * 100)
        assert crowd.working["loud"] == 16
        tasks += await come(crowd, "quiet")
        for _ in range(16):
            await crowd.one_is_done("loud")
        assert crowd.working == {"loud": 1, "quiet": 1}, "its own end before others of it begin"
        await crowd.one_is_done("quiet")
        await crowd.one_is_done("loud")
        assert crowd.working == {"loud": 1, "quiet": 0}, "he will ask again"
        crowd.now += BESIDE_S / 2
        tasks += await come(crowd, "quiet")
        await crowd.one_is_done("quiet")
        crowd.now += BESIDE_S
        await crowd.one_is_done("loud")
        assert crowd.working["loud"] == 16, "he has not"
        tasks += await come(crowd, *["louder"] * 100)
        for _ in range(30):
            await crowd.one_is_done("loud")
        assert crowd.working["louder"] >= 8, "neither of them is quiet"
        assert sum(crowd.working.values()) == 16
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_who_asks_a_few_things_at_once_is_no_crowd() -> None:
    async def runs() -> None:
        crowd = Crowd(16)
        tasks = await come(crowd, "quiet", *["loud"] * CROWD)
        assert crowd.working == {"loud": CROWD, "quiet": 1}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_a_crowd_goes_on_by_itself_when_the_other_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody comes and nobody is done: what the crowd has at work may take a minute."""
    monkeypatch.setattr(module, "BESIDE_S", 0.01)

    async def runs() -> None:
        turns = module.Turns(16)
        (await turns.come("quiet")).over()
        tasks = [asyncio.create_task(turns.come("loud")) for _ in range(40)]
        await settled()
        assert sum(task.done() for task in tasks) <= CROWD
        while sum(task.done() for task in tasks) < 16:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_who_gives_up_keeps_no_turn() -> None:
    async def runs() -> None:
        turns = Turns(1)
        first = await turns.come("a")
        gone, late, last = (asyncio.create_task(turns.come(key)) for key in "bbc")
        await settled()
        gone.cancel()
        await settled()
        first.over()  # it is the turn of the second of b ...
        late.cancel()  # ... who gives up in that very moment
        await settled()
        assert late.cancelled()
        second = await last
        first.over()  # once more: that changes nothing
        waiting = asyncio.create_task(turns.come("d"))
        await settled()
        assert not waiting.done()
        second.over()
        await waiting

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_who_gives_way_does_so_until_nobody_is_at_work_or_for_a_while() -> None:
    async def runs() -> None:
        turns = Turns(2)
        await turns.idle(60)
        both = [await turns.come("a"), await turns.come("b")]
        await turns.idle(0.001)
        waits = asyncio.create_task(turns.idle(60))
        both[0].over()
        await settled()
        assert not waits.done()
        both[1].over()
        await settled()
        assert waits.done()

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_no_more_are_searched_at_once_than_the_settings_say() -> None:
    """Over HTTP: the search hangs, so many are there; the others are not, until one is done."""

    class Hanging(FixedRetriever):
        def __init__(self) -> None:
            super().__init__()
            self.searching, self.most, self.go_on = 0, 0, threading.Event()

        async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Any:
            self.searching += 1
            self.most = max(self.most, self.searching)
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
            self.searching -= 1
            return await super().search(question, k, collection)

    retriever = Hanging()
    service = Service(retriever=retriever, section=ServeSection(searches_at_once=3, longest_wait_s=600))
    with on_socket(service.app()) as url, ThreadPoolExecutor(8) as pool:

        def ask(n: int) -> httpx.Response:
            route, body = ("search", {"query": "How?"}) if n % 2 else ("chat/completions", CHAT)
            return httpx.post(f"{url}/v1/{route}", json=body, timeout=30, trust_env=False)

        asked = [pool.submit(ask, n) for n in range(8)]
        assert service.gateway is not None
        admission = service.gateway.admission
        eventually(lambda: admission.inside == 8 and retriever.searching == 3, 20)
        retriever.go_on.set()
        replies = [one.result() for one in asked]
    assert {reply.status_code for reply in replies} == {200}
    assert retriever.most == 3
    assert all("turn" in reply.json()["plinth"]["timings_ms"] for reply in replies)


def test_a_turn_lasts_until_the_text_begins_and_no_longer() -> None:
    """What comes after the search is work, too: a crowd behind it would make everybody slow."""

    class Gate:
        def __init__(self) -> None:
            self.passes = threading.Semaphore(0)

        async def wait(self) -> None:
            while not self.passes.acquire(blocking=False):
                await asyncio.sleep(0.01)

    gate, retriever = Gate(), FixedRetriever()
    tier = ScriptedTier(deltas=("Use ", "shutil.copytree."), gate=gate)
    service = Service(retriever=retriever, tier=tier, section=ServeSection(searches_at_once=1, longest_wait_s=600))
    with on_socket(service.app()) as url, ThreadPoolExecutor(3) as pool:

        def ask() -> int:
            return httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30, trust_env=False).status_code

        asked = [pool.submit(ask) for _ in range(3)]
        assert service.gateway is not None
        admission = service.gateway.admission
        eventually(lambda: admission.inside == 3 and len(tier.questions) == 1, 20)
        assert len(retriever.questions) == 1
        gate.passes.release()
        eventually(lambda: len(tier.questions) == 2, 20)
        assert (len(retriever.questions), tier.closed) == (2, 0), "it is being written, beside others"
        gate.passes.release(5)
        assert [one.result() for one in asked] == [200] * 3
