"""Who works when more want to than may: each key in its turn."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.sections.serve import ServeSection
from serve_apps.gateway.turns import Turns
from tests.fakes import FixedRetriever
from tests.serve_apps.service import CHAT, Service, eventually, on_socket


async def settled() -> None:
    """Until nobody goes on by himself."""
    for _ in range(10):
        await asyncio.sleep(0)


class Crowd:
    """Works for as long as it is not told to be done; notes who began."""

    def __init__(self, most: int) -> None:
        self.turns, self.began, self.working = Turns(most), list[str](), 0
        self._done = asyncio.Semaphore(0)

    async def work(self, key: str) -> None:
        await self.turns.come(key)
        try:
            self.began.append(key)
            self.working += 1
            await self._done.acquire()
        finally:
            self.working -= 1
            self.turns.over()

    async def one_is_done(self) -> None:
        self._done.release()
        await settled()


def test_one_question_of_another_key_waits_for_one_turn_and_not_for_two_hundred() -> None:
    async def runs() -> None:
        crowd = Crowd(2)
        tasks = [asyncio.create_task(crowd.work("loud")) for _ in range(200)]
        await settled()
        tasks.append(asyncio.create_task(crowd.work("quiet")))
        await settled()
        assert (crowd.began, crowd.working) == (["loud", "loud"], 2)
        await crowd.one_is_done()
        await crowd.one_is_done()
        assert crowd.began == ["loud", "loud", "loud", "quiet"], "the key that waits longest is first, then the other"
        for _ in range(197):
            await crowd.one_is_done()
        assert crowd.working == 2
        for _ in range(2):
            await crowd.one_is_done()
        await asyncio.gather(*tasks)
        assert (len(crowd.began), crowd.working) == (201, 0)
        await crowd.turns.come("later")  # and there is room again

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_three_keys_have_turns_one_after_the_other() -> None:
    async def runs() -> None:
        crowd = Crowd(1)
        tasks = [asyncio.create_task(crowd.work(key)) for key in "aaaabbc"]
        await settled()
        for _ in "aaaabbc":
            await crowd.one_is_done()
        await asyncio.gather(*tasks)
        assert "".join(crowd.began) == "aabcaba"

    asyncio.run(asyncio.wait_for(runs(), 20))


def test_who_gives_up_keeps_no_turn() -> None:
    async def runs() -> None:
        turns = Turns(1)
        await turns.come("a")
        gone, late, last = (asyncio.create_task(turns.come(key)) for key in "bbc")
        await settled()
        gone.cancel()
        await settled()
        turns.over()  # it is the turn of the second of b ...
        late.cancel()  # ... who gives up in that very moment
        await settled()
        assert late.cancelled()
        await last
        turns.over()
        await turns.come("anybody")

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

        def ask() -> httpx.Response:
            return httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30, trust_env=False)

        asked = [pool.submit(ask) for _ in range(8)]
        assert service.gateway is not None
        admission = service.gateway.admission
        eventually(lambda: admission.inside == 8 and retriever.searching == 3, 20)
        retriever.go_on.set()
        replies = [one.result() for one in asked]
    assert {reply.status_code for reply in replies} == {200}
    assert retriever.most == 3
    assert all("turn" in reply.json()["plinth"]["timings_ms"] for reply in replies)
