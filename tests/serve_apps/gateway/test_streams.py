"""What a key may hold open at once: counted from the first byte of a request to the end of its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.ledger.key_book import KeyBook
from cluster.core.identity import SCOPES, Principal
from cluster.core.sections.trust import TrustSection
from serve_apps.gateway.doorkeeper import Doorkeeper
from serve_apps.gateway.streams import Streams
from tests.fakes import ScriptedTier
from tests.serve_apps.service import CHAT, Service

DEADLINE_S = 20.0


class Crowd:
    """A service whose tier waits for ``gate``, and who asks it; a key without a number has ``most``."""

    def __init__(self, book: KeyBook | None, most: int = 2) -> None:
        self.gate = asyncio.Event()
        self.tier = ScriptedTier(gate=self.gate)
        self.keeper = Doorkeeper(book, TrustSection(streams_per_key=most))
        self.service = Service(tier=self.tier, doorkeeper=self.keeper)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.service.app()), base_url="http://127.0.0.1:8000"
        )

    def ask(self, key: str = "", path: str = "/v1/chat/completions", **body: Any) -> asyncio.Task[httpx.Response]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        asked = {**CHAT, **body} if path.startswith("/v1/chat") else body
        return asyncio.create_task(self.client.post(path, json=asked, headers=headers))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                await asyncio.sleep(0.001)


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    return KeyBook(tmp_path / "keys.sqlite", bytes(32))


def key(book: KeyBook, name: str, streams: int | None = None) -> str:
    return book.create(name, Principal("", scopes=frozenset(SCOPES), streams=streams))[0]


def test_a_key_has_so_many_requests_at_once_and_no_more(book: KeyBook) -> None:
    async def scene() -> None:
        crowd, one, other = Crowd(book), key(book, "one"), key(book, "other")
        held = [crowd.ask(one, stream=True), crowd.ask(one)]
        await crowd.until(lambda: len(crowd.tier.questions) == 2)
        for path, body in (("/v1/chat/completions", {}), ("/v1/search", {"query": "copy"})):
            refused = await crowd.ask(one, path, **body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert int(refused.headers["retry-after"]) >= 1
        assert len(crowd.tier.questions) == 2, "what is refused reaches no tier"
        assert (await crowd.ask(other, "/v1/search", query="copy")).status_code == 200, "each key for itself"
        assert (await crowd.client.get("/healthz")).status_code == 200

        held[0].cancel()  # a client that goes away makes room, as one does that has its answer
        await crowd.until(held[0].done)
        held.append(crowd.ask(one))
        await crowd.until(lambda: len(crowd.tier.questions) == 3)
        crowd.gate.set()
        assert [(await task).status_code for task in held[1:]] == [200, 200]
        assert [(await crowd.ask(one)).status_code for _ in range(5)] == [200] * 5
        assert (await crowd.ask(one, messages=[])).status_code == 400
        assert len(crowd.keeper._streams) == 0, "nothing is left of those that ended"

    asyncio.run(scene())


def test_a_key_with_a_number_of_its_own_has_that_one(book: KeyBook) -> None:
    async def scene() -> None:
        crowd, few, many = Crowd(book), key(book, "few", 1), key(book, "many", 3)
        held = [crowd.ask(few), *(crowd.ask(many) for _ in range(3))]
        await crowd.until(lambda: len(crowd.tier.questions) == 4)
        assert [(await crowd.ask(one)).status_code for one in (few, many)] == [429, 429]
        crowd.gate.set()
        assert [(await task).status_code for task in held] == [200] * 4
        me = await crowd.client.get("/v1/plinth/me", headers={"authorization": f"Bearer {few}"})
        assert me.json()["streams"] == 1

    asyncio.run(scene())


def test_without_keys_nobody_is_counted() -> None:
    async def scene() -> None:
        crowd = Crowd(None, most=1)
        held = [crowd.ask() for _ in range(4)]
        await crowd.until(lambda: len(crowd.tier.questions) == 4)
        crowd.gate.set()
        assert [(await task).status_code for task in held] == [200] * 4

    asyncio.run(scene())


def test_a_place_comes_back_whatever_ends_it() -> None:
    streams, who = Streams(1), Principal("a")

    def broken() -> None:
        with streams.of(who) as refusal, streams.of(who) as other:
            assert refusal is None
            assert other is not None
            assert other.status == 429
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert len(streams) == 0
    with streams.of(who) as refusal:
        assert refusal is None


def test_keys_of_earlier_books_have_no_number() -> None:
    values = Principal("a", streams=7).to_json()
    assert Principal.from_json(values).streams == 7
    del values["streams"]
    assert Principal.from_json(values).streams is None
