"""Whose turn it is: so many questions are worked on at once, the others wait, and of those that wait each key has its
turn. Pure, for one event loop.

Without it a client with two hundred questions is two hundred times as loud as one with one, and a crowd in front of the
retriever makes everybody slow, the gateway's own work included.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator


class Turns:
    """Counts and queues.

    Args:
        most: how many are worked on at once.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by key, in the order in which they have turns

    async def come(self, key: str) -> None:
        """Return when it is the turn of this key's next; to be followed by ``over``, unless it is cancelled."""
        if self._free:  # then nobody waits
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came just as he gave up
                self.over()
            raise

    def over(self) -> None:
        """Somebody is done: the key that has waited longest for a turn has the next one, and then waits behind the
        others."""
        while self._waiting:
            key = next(iter(self._waiting))
            queue = self._waiting.pop(key)
            turn = next((one for one in _taken(queue) if not one.done()), None)  # those that are done gave up
            if queue:
                self._waiting[key] = queue
            if turn is not None:
                turn.set_result(None)
                return
        self._free += 1


def _taken(queue: deque[asyncio.Future[None]]) -> Iterator[asyncio.Future[None]]:
    while queue:
        yield queue.popleft()
