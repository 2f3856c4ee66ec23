"""Calls of several requests that go to another deployment as one.

A call costs the gateway and the replica some milliseconds of processor time whatever it asks for. Under load that is
as much as the work itself, and calls that wait for their turn anyway may as well travel together. Nobody waits for
company: who meets a free lane goes at once and alone, those that come while all lanes are taken make up the next call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Waiting = tuple[Item, "asyncio.Future[Result]"]

MOST = 8  # items of one call: more save little, and the first would wait for the last


class Coalesced(Generic[Item, Result]):
    """Makes calls, alone or together. For one event loop.

    Args:
        alone: makes the call of one item.
        together: makes one call of several: the result of each, or what went wrong with it, in their order. Where the
            call itself fails, each item is called for alone.
        lanes: calls under way before others wait.
        most: items of one call.
    """

    def __init__(
        self,
        alone: Callable[[Item], Awaitable[Result]],
        together: Callable[[list[Item]], Awaitable[Sequence[Result | BaseException]]],
        lanes: int,
        most: int = MOST,
    ) -> None:
        self._alone, self._together, self._lanes, self._most = alone, together, lanes, most
        self._under_way = 0
        self._waiting: deque[Waiting[Item, Result]] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def call(self, item: Item) -> Result:
        """The result of an item. Raises what went wrong with it; who gives up while waiting is left out."""
        if self._under_way < self._lanes:
            with self._lane():
                return await self._alone(item)
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        return await result

    @property
    def idle(self) -> bool:
        """Nothing is under way, and nothing waits."""
        return not self._under_way and not self._waiting

    @contextmanager
    def _lane(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._next()

    def _next(self) -> None:
        """Send those that wait, as far as there are lanes."""
        while self._waiting and self._under_way < self._lanes:
            batch: list[Waiting[Item, Result]] = []
            while self._waiting and len(batch) < self._most:
                if not (one := self._waiting.popleft())[1].done():
                    batch.append(one)
            if batch:
                self._begin(batch)

    def _begin(self, batch: list[Waiting[Item, Result]]) -> None:
        results = [result for _, result in batch]
        # In a context of its own: in that of whoever made room, the call would end with that one's request.
        call = asyncio.get_running_loop().create_task(self._settled(batch), context=Context())
        self._under_way += 1
        self._calls.add(call)

        def given_up(_: asyncio.Future[Result]) -> None:
            if all(result.done() for result in results):
                call.cancel()  # does nothing where it is over

        def over(_: asyncio.Task[None]) -> None:
            self._calls.discard(call)
            self._under_way -= 1
            for result in results:
                result.cancel()  # likewise
            self._next()

        for result in results:
            result.add_done_callback(given_up)
        call.add_done_callback(over)

    async def _settled(self, batch: list[Waiting[Item, Result]]) -> None:
        items, found = [item for item, _ in batch], list[Result | BaseException]()
        if len(items) > 1:
            (made,) = await asyncio.gather(self._together(items), return_exceptions=True)
            found = [] if isinstance(made, BaseException) else list(made)
        if len(found) != len(items):  # one of them may be to blame: each finds out by itself
            found = await asyncio.gather(*map(self._alone, items), return_exceptions=True)
        for (_, result), one in zip(batch, found, strict=True):
            if result.done() or isinstance(one, asyncio.CancelledError):
                continue
            if isinstance(one, BaseException):
                result.set_exception(one)
            else:
                result.set_result(one)
