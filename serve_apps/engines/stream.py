"""Requests between the event loop that asked and the engine thread that answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from serve_apps.engines.protocol import EngineSampling, Finish, TokenDelta

# Tokens travel to the event loop in groups: one wake-up per loop and flush, not one per token (a token streamed alone
# through a Serve handle costs 0.15-0.7 ms). The first token and the last go at once.
FLUSH_S = 0.02
RATE_WINDOW_S = 10


class DeltaStream:
    """The reading end. Lives on one event loop; only ``cancel`` leaves it."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._ids: list[int] = []
        self._finish: Finish = ""
        self._error: BaseException | None = None
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> DeltaStream:
        return self

    async def __anext__(self) -> TokenDelta:
        if self._waiter is not None:
            raise RuntimeError("two tasks read one stream")
        while not (self._ids or self._finish or self._error or self._closed):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                await self.aclose()  # as with an async generator: who is cancelled while reading reads no more
                raise
            finally:
                self._waiter = None
        if not self._closed and (self._ids or self._finish):
            delta = TokenDelta(tuple(self._ids), self._finish)
            self._ids.clear()
            self._closed = bool(self._finish)
            return delta
        if self._error is not None and not self._closed:
            self._closed = True
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel what is not finished; nothing is delivered after it."""
        if not self._closed:
            self._closed = True
            self._ids.clear()
            if not self._finish:
                self._cancel()
            self._wake()

    def __del__(self) -> None:
        if not self._closed and not self._finish:
            self._cancel()  # dropped without being closed: the engine must not work for nobody

    def deliver(self, ids: Iterable[int], finish: Finish, error: BaseException | None) -> None:
        """On the event loop only."""
        if self._closed:
            return
        self._ids.extend(ids)
        self._finish, self._error = finish, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(eq=False)
class Request:
    """One prompt on its way through the engine thread, which owns it except for ``cancelled``."""

    number: int
    ids: tuple[int, ...]
    sampling: EngineSampling
    loop: asyncio.AbstractEventLoop
    deliver: Callable[[Iterable[int], Finish, BaseException | None], None]
    adapter: str | None = None
    cancelled: bool = False  # set by any thread, read by the engine's
    generated: int = 0
    unsent: list[int] = field(default_factory=list)
    finish: Finish = ""
    error: BaseException | None = None
    sent_at: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more will be generated: it finished or failed."""
        return bool(self.finish) or self.error is not None

    def emit(self, ids: Iterable[int]) -> None:
        """Add generated ids and see whether they end the request."""
        for token in ids:
            self.unsent.append(token)
            self.generated += 1
            if token in self.sampling.stop_ids:
                self.finish = "stop"
            elif self.generated >= self.sampling.max_new_tokens:
                self.finish = "length"
            if self.finish:
                return

    def due(self, now: float, flush_s: float) -> bool:
        """Whether there is something to hand over: the end, or ids ``flush_s`` seconds after the last were sent."""
        return self.over or (bool(self.unsent) and now - self.sent_at >= flush_s)


def flush(requests: Iterable[Request], now: float, flush_s: float) -> None:
    """Hand over what is due, with one wake-up per event loop. A loop that is gone cancels its requests."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Parcel]] = {}
    for request in requests:
        if request.due(now, flush_s) and not request.cancelled:
            # A copy of how things stand now: the engine goes on writing to the request before the loop looks at it.
            parcel = (request, request.unsent, request.finish, request.error)
            by_loop.setdefault(request.loop, []).append(parcel)
            request.unsent, request.sent_at = [], now
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_deliver, group)
        except RuntimeError:  # the loop was closed; nobody reads any more
            for request, *_ in group:
                request.cancelled = True


Parcel = tuple[Request, list[int], Finish, BaseException | None]


def _deliver(group: list[Parcel]) -> None:
    for request, ids, finish, error in group:
        request.deliver(ids, finish, error)


class Rate:
    """Tokens per second over the last ten seconds. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._seconds: deque[tuple[int, int]] = deque(maxlen=RATE_WINDOW_S + 1)  # (second, tokens)

    def add(self, tokens: int) -> None:
        """Count tokens as generated now."""
        second = int(time.monotonic())
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + tokens)
        else:
            self._seconds.append((second, tokens))

    def per_second(self) -> float:
        """The mean over the window, or since the start where that is less than ten seconds ago."""
        now = time.monotonic()
        tokens = sum(count for second, count in tuple(self._seconds) if now - second <= RATE_WINDOW_S)
        return tokens / max(1.0, min(RATE_WINDOW_S, now - self._started))
