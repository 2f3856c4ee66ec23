"""The gateways' end of the audit log: takes entries at once, sends them on in batches, loses none silently.

One batch is on its way at a time, and whatever comes meanwhile is the next one: the busier it is, the more records
share a call and a sync. It follows at once only where somebody waits for a confirmation. What cannot be sent waits and
is tried again; what does not fit into the queue is counted. A batch whose acknowledgement got lost is sent again: a
record may be there twice, with the same request id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from actors.audit.entries import Entry
from cluster.core.errors import EnvironmentFaultError, PlinthError
from cluster.core.telemetry import log_event

MOST_WAITING, MOST_AT_ONCE = 10_000, 512
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
CONFIRM_S = 3.0
APART_S = 0.2  # between the beginnings of two batches that nobody waits for
NOTHING = Entry("", b"")  # asks only how the log is
Send = Callable[[Sequence[Entry]], Awaitable[dict[str, Any]]]


@dataclass
class _Waiting:
    entry: Entry
    confirmed: asyncio.Future[None] | None = None


class AuditClient:
    """Sends entries to the log; to be used in one event loop.

    Args:
        connect: finds the log, and gives what sends a batch to it and returns what the log says of itself. Called
            again after a failure. Both raise PlinthError where the log cannot be reached or does not take the batch.
        lost: is told how many entries were lost and why (``full``).

    Attributes:
        said: what the log last said: ``last`` (number of the newest record), ``damaged`` (empty, or what is wrong).
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Send]],
        lost: Callable[[int, str], None],
        most_waiting: int = MOST_WAITING,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self._connect, self._lost, self._most, self._confirm_s = connect, lost, most_waiting, confirm_s
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._failing = ""
        self.said: dict[str, Any] = {}

    @property
    def waiting(self) -> int:
        """Entries that are not acknowledged yet."""
        return len(self._queue)

    def offer(self, entry: Entry) -> None:
        """Write this down soon. Never waits, never raises."""
        if len(self._queue) < self._most:
            self._put(_Waiting(entry))
        else:
            self._lost(1, "full")

    async def confirm(self, entry: Entry) -> None:
        """Write this down and return when it is safe.

        Raises:
            EnvironmentFaultError: it is not, within ``confirm_s`` seconds; at once, where the log is known to fail.
        """
        if self._failing or len(self._queue) >= self._most:
            raise EnvironmentFaultError(f"the audit log fails: {self._failing or 'too much waits for it'}")
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Waiting(entry, confirmed))
        self._urgent.set()
        try:
            async with asyncio.timeout(self._confirm_s):
                await confirmed
        except TimeoutError:
            raise EnvironmentFaultError("the audit log does not answer") from None

    async def look(self) -> None:
        """Have the log say how it is, though there is nothing to write."""
        if not self._queue:
            self._put(_Waiting(NOTHING))

    def _put(self, waiting: _Waiting) -> None:
        self._queue.append(waiting)
        self._arrived.set()
        if self._sender is None or self._sender.done():
            self._urgent = asyncio.Event()  # of the loop that runs now
            self._sender = asyncio.get_running_loop().create_task(self._send_on())

    async def _send_on(self) -> None:
        send: Send | None = None
        pause_s, next_at = FIRST_PAUSE_S, 0.0
        clock = asyncio.get_running_loop().time
        while True:
            await self._arrived.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_at):
                    await self._urgent.wait()
            self._urgent.clear()
            next_at = clock() + APART_S
            batch = [self._queue[n] for n in range(min(MOST_AT_ONCE, len(self._queue)))]
            try:
                if send is None:
                    send = await self._connect()
                self.said = await send([one.entry for one in batch if one.entry is not NOTHING])
            except PlinthError as error:
                send = None
                self._fail(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s, self._failing = FIRST_PAUSE_S, ""
            for one in batch:
                self._queue.popleft()
                if one.confirmed is not None and not one.confirmed.done():
                    one.confirmed.set_result(None)
            if not self._queue:
                self._arrived.clear()

    def _fail(self, error: PlinthError) -> None:
        """Whoever waits for a confirmation gets the error instead, and is not sent; the others stay."""
        if not self._failing:
            log_event("audit", "not_written", error=error.message, waiting=len(self._queue))
        self._failing = error.message
        for one in self._queue:
            if one.confirmed is not None and not one.confirmed.done():
                one.confirmed.set_exception(EnvironmentFaultError(f"the audit log fails: {error.message}"))
        self._queue = deque(one for one in self._queue if one.confirmed is None)
        if not self._queue:  # tried again by itself: while it fails, nobody is let in to try
            self._queue.append(_Waiting(NOTHING))
