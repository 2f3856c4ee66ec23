"""Whose turn it is: so many requests are worked on at once, the others wait, and of those that wait each key has its
turn. Pure, for one event loop.

Without it a client with two hundred questions is two hundred times as loud as one with one, and a crowd in front of the
retriever makes everybody slow, the gateway's own work included. A fair order is not enough: who is first among sixteen
that share two cores is as slow as the last. So where somebody asks now and then, a crowd beside him has its share only.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve_apps.gateway.request_log import RequestRecord

BESIDE_S = 3.0  # somebody who asked so lately is likely to ask again; one who does not shall not slow a crowd for long
SHARE = 16  # of the turns a sixteenth, and one at least, is what a crowd has beside somebody
CROWD = 8  # requests of one key, at work or waiting: with more it is one


class Turns:
    """Counts and queues.

    Args:
        most: how many are worked on at once.
        clock: seconds that do not go back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free, self._share, self._clock = most, max(1, most // SHARE), clock
        self._working: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[Turn]]] = {}  # by key, in the order in which they have turns
        self._asked: dict[str, float] = {}  # when each key asked last, those that asked lately last
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None

    async def come(self, key: str) -> Turn:
        """Return when it is the turn of this key's next; whoever is not cancelled has to end it."""
        self._asked.pop(key, None)
        self._asked[key] = self._clock()
        if self._free and key not in self._waiting and self._may(key, coming=1):
            return self._taken(key)
        turn: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        self._next()  # beside a crowd of this key others may have gone by now
        self._look_again()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came just as he gave up
                turn.result().over()
            raise

    @asynccontextmanager
    async def of(self, record: RequestRecord) -> AsyncIterator[None]:
        """A turn of a request, which waits for it here; over at the end of the block, or before (``end_turn``)."""
        with record.stage("turn"):
            record.turn = await self.come(record.principal.key_id)
        try:
            yield
        finally:
            record.end_turn()

    async def idle(self, longest_s: float) -> None:
        """Return when nobody is at work, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._idle.wait()

    def _may(self, key: str, coming: int = 0) -> bool:
        """Whether a key may have one more: beside somebody who is no crowd himself it has its share."""
        now = self._clock()
        while self._asked and now - self._asked[next(iter(self._asked))] >= BESIDE_S:
            del self._asked[next(iter(self._asked))]
        here = self._working[key] + len(self._waiting.get(key, ())) + coming
        if here <= CROWD or self._working[key] < self._share:
            return True
        return all(one == key or one in self._waiting for one in self._asked)

    def _look_again(self) -> None:
        """Once in a while: nobody says so when somebody has not asked for long."""
        if self._waiting and self._timer is None:

            def look() -> None:
                self._timer = None
                self._next()
                self._look_again()

            self._timer = asyncio.get_running_loop().call_later(BESIDE_S, look)

    def _taken(self, key: str) -> Turn:
        self._free -= 1
        self._working[key] += 1
        self._idle.clear()
        return Turn(self, key)

    def _over(self, key: str) -> None:
        self._free += 1
        self._working[key] -= 1
        if not self._working[key]:
            del self._working[key]
        self._next()
        if not self._working:
            self._idle.set()

    def _next(self) -> None:
        """Of the keys that wait the one with the fewest at work has the next turn, and of several the one that waits
        longest, which then waits behind the others."""
        while self._free and (may := [key for key in self._waiting if self._may(key)]):
            queue = self._waiting.pop(key := min(may, key=self._working.__getitem__))
            turn = next((one for one in _left(queue) if not one.done()), None)  # those that are done gave up
            if queue:
                self._waiting[key] = queue
            if turn is not None:
                turn.set_result(self._taken(key))


class Turn:
    """One request's turn."""

    def __init__(self, turns: Turns, key: str) -> None:
        self._turns, self._key, self._mine = turns, key, True

    def over(self) -> None:
        """It is somebody else's. Later calls do nothing."""
        if self._mine:
            self._mine = False
            self._turns._over(self._key)


def _left(queue: deque[asyncio.Future[Turn]]) -> Iterator[asyncio.Future[Turn]]:
    while queue:
        yield queue.popleft()
