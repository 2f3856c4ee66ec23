"""A server that sends just the bytes a test says, over a real socket, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Script = Sequence[bytes] | Callable[[dict[str, Any]], Sequence[bytes]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n"


def event(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def error(status: int, body: Any = None, *headers: str) -> bytes:
    data = json.dumps(body if body is not None else {}).encode()
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


@dataclass
class Scripted:
    """What it got, and whether its clients have hung up."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    hung_up: int = 0


@contextmanager
def scripted(script: Script, waits: bool = False) -> Iterator[Scripted]:
    """Answers each request with the pieces of ``script`` and closes; with ``waits`` it is silent after them until the
    client hangs up."""
    found, ready, loop = Scripted(), threading.Event(), asyncio.new_event_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line.split(":")[1]) for line in head.lower().split("\r\n") if "content-length" in line), 0
            )
            body = json.loads(await reader.readexactly(length))
            found.bodies.append(body)
            found.heads.append(head)
            found.paths.append(head.split(" ")[1])
            for piece in script(body) if callable(script) else script:
                writer.write(piece)
                await writer.drain()
            if waits and not await reader.read(1):
                found.hung_up += 1
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
