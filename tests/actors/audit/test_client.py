"""The gateways' end of the log: batches, a bounded queue, and what happens while the log fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from actors.audit.client import AuditClient, Send
from actors.audit.entries import Entry
from cluster.core.errors import EnvironmentFaultError


class Sink:
    """The log over a wire that may be cut, or held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.fails, self.connections = False, 0
        self.open = asyncio.Event()
        self.open.set()

    async def connect(self) -> Send:
        self.connections += 1
        return self.send

    async def send(self, entries: Sequence[Entry]) -> dict[str, Any]:
        await self.open.wait()
        if self.fails:
            raise EnvironmentFaultError("no space left")
        if entries:
            self.batches.append([entry.payload.decode() for entry in entries])
        return {"last": sum(map(len, self.batches)), "damaged": ""}

    @property
    def written(self) -> list[str]:
        return [one for batch in self.batches for one in batch]


def entry(number: int) -> Entry:
    return Entry("", str(number).encode())


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))


def test_what_comes_while_a_batch_is_on_its_way_is_the_next_one() -> None:
    async def scene() -> None:
        sink, lost = Sink(), list[int]()
        client = AuditClient(sink.connect, lambda count, reason: lost.append(count))
        sink.open.clear()
        client.offer(entry(0))
        await until(lambda: sink.connections == 1)
        for number in range(1, 601):
            client.offer(entry(number))
        sink.open.set()
        await until(lambda: not client.waiting)
        assert sink.written == [str(number) for number in range(601)]
        assert len(sink.batches) <= 3
        assert client.said == {"last": 601, "damaged": ""}
        assert lost == []

    asyncio.run(scene())


def test_what_does_not_fit_is_counted_and_the_rest_comes_through_later() -> None:
    async def scene() -> None:
        sink, lost = Sink(), list[tuple[int, str]]()
        client = AuditClient(sink.connect, lambda count, reason: lost.append((count, reason)), most_waiting=50)
        sink.fails = True
        for number in range(60):
            client.offer(entry(number))
        assert lost == [(1, "full")] * 10
        await until(lambda: sink.connections >= 2)  # it is tried again
        assert client.waiting == 50
        sink.fails = False
        await until(lambda: not client.waiting)
        assert sink.written == [str(number) for number in range(50)]

    asyncio.run(scene())


def test_nobody_is_confirmed_while_the_log_fails() -> None:
    async def scene() -> None:
        sink = Sink()
        client = AuditClient(sink.connect, lambda count, reason: None)
        await client.confirm(entry(1))
        assert sink.written == ["1"]
        sink.fails = True
        with pytest.raises(EnvironmentFaultError, match="no space left"):
            await client.confirm(entry(2))
        connections = sink.connections
        with pytest.raises(EnvironmentFaultError, match="no space left"):  # at once: the log is known to fail
            await client.confirm(entry(3))
        assert sink.connections == connections
        sink.fails = False
        await until(lambda: not client.waiting)  # it looks by itself whether the log is well again
        await client.confirm(entry(4))
        assert sink.written == ["1", "4"]  # whoever was refused is not written down as begun

    asyncio.run(scene())


def test_a_log_that_does_not_answer_is_given_up() -> None:
    async def scene() -> None:
        sink = Sink()
        client = AuditClient(sink.connect, lambda count, reason: None, confirm_s=0.05)
        sink.open.clear()
        with pytest.raises(EnvironmentFaultError, match="does not answer"):
            await client.confirm(entry(1))

    asyncio.run(scene())


def test_batches_are_apart_unless_somebody_waits_for_a_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.audit.client.APART_S", 600.0)

    async def scene() -> None:
        sink = Sink()
        client = AuditClient(sink.connect, lambda count, reason: None, confirm_s=20)
        client.offer(entry(0))
        await until(lambda: not client.waiting)
        client.offer(entry(1))
        client.offer(entry(2))
        await client.confirm(entry(3))
        assert sink.batches == [["0"], ["1", "2", "3"]]
        await client.confirm(entry(4))
        assert sink.batches[2:] == [["4"]]

    asyncio.run(scene())
