"""Replies that run while the client listens: one JSON body, or server-sent events.

Both watch for the client's disconnect and cancel the work then, and both end at the request's deadline. A stream that
fails after its first byte ends in an error event, never in a clean close: the SDK would take that for the whole answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cluster.core.errors import PlinthError
from serve_apps.api.middleware import note
from serve_apps.errors import ClientGoneError, DeadlineError
from serve_apps.gateway.request_log import CLIENT_GONE, RequestRecord

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
LAST_WORDS_S = 1.0


def encode(event: dict[str, Any]) -> bytes:
    """One server-sent event. ASCII only: nothing in a document can break the framing."""
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


class Watched(Response):
    """Runs ``_run`` until it ends, the deadline passes, or the client leaves."""

    def __init__(self, record: RequestRecord, timeout_s: float) -> None:
        super().__init__()
        self._record, self._timeout_s = record, timeout_s

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._run(scope, receive, send))
        leaving = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            started, self._record.status = bool(self._record.status), CLIENT_GONE
            if not started:
                raise ClientGoneError  # else leave the reply as it is: broken off
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    def _deadline(self) -> asyncio.Timeout:
        return asyncio.timeout(self._timeout_s - self._record.elapsed_ms / 1000)

    def _too_late(self) -> DeadlineError:
        return DeadlineError(f"the request took longer than {self._timeout_s:g} s")


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class JsonReply(Watched):
    """The JSON that ``work`` returns; where that is bytes, they are JSON already."""

    def __init__(
        self, work: Callable[[], Awaitable[dict[str, Any] | bytes]], record: RequestRecord, timeout_s: float
    ) -> None:
        super().__init__(record, timeout_s)
        self._work = work

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._deadline():
                body = await self._work()
                await self._record.admitted()
        except TimeoutError:
            raise self._too_late() from None
        reply = Response(body, media_type="application/json") if isinstance(body, bytes) else JSONResponse(body)
        await reply(scope, receive, send)


class Framing(Protocol):
    """How events look on the wire."""

    end: bytes
    """What tells the client that this was all."""

    def encode(self, event: dict[str, Any]) -> bytes:
        """One event."""
        ...

    def failure(self, error: dict[str, Any]) -> dict[str, Any]:
        """The event that ends a stream that broke; ``error`` is the body of an error reply."""
        ...


class DataFraming:
    """Events without a name; a last one that is no JSON ends the stream."""

    end = b"data: [DONE]\n\n"

    def encode(self, event: dict[str, Any]) -> bytes:
        """See ``Framing``."""
        return encode(event)

    def failure(self, error: dict[str, Any]) -> dict[str, Any]:
        """See ``Framing``."""
        return error


class EventStream(Watched):
    """Server-sent events, in groups that are sent as one piece each.

    Nothing is sent before the first group is there, so what fails until then is an ordinary error reply.
    """

    def __init__(
        self,
        groups: AsyncGenerator[Iterable[dict[str, Any]], None],
        record: RequestRecord,
        timeout_s: float,
        framing: Framing | None = None,
    ) -> None:
        super().__init__(record, timeout_s)
        self._groups, self._framing = groups, framing or DataFraming()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with self._deadline(), aclosing(self._groups) as groups:
                async for group in groups:
                    piece = b"".join(map(self._framing.encode, group))
                    if not started:
                        await self._record.admitted()
                        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                        started = True
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (PlinthError, OSError) as error:  # TimeoutError and ConnectionError are OSErrors
            failure: PlinthError | OSError = self._too_late() if isinstance(error, TimeoutError) else error
            if not started:
                raise failure from error.__cause__
            await self._break_off(failure, send)
            return
        await send({"type": "http.response.body", "body": self._framing.end, "more_body": False})

    async def _break_off(self, failure: PlinthError | OSError, send: Send) -> None:
        """The error as the last event. A client that does not even read that is cut off by the exception."""
        shape = note(failure, self._record)
        self._record.error = self._record.error or shape.message
        last = self._framing.encode(self._framing.failure(shape.body()))
        async with asyncio.timeout(LAST_WORDS_S):
            await send({"type": "http.response.body", "body": last, "more_body": False})
