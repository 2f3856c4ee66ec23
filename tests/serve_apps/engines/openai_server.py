"""An OpenAI-compatible server over an engine, and the engine `openai` as its client, in ids of tokens.

A token is one character on the wire, three bytes long, and every reply is cut at odd places: characters, lines and
events arrive in pieces.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cluster.core.sections.tiers import TierConfig
from serve_apps.engines.openai_engine import OpenAIEngine, TextSampling
from serve_apps.engines.protocol import Capabilities, Engine, EngineSampling, EngineStats, TokenDelta
from tests.serve_apps.service import on_socket

FIRST = 0x4E00
PIECE = 101  # bytes


def text_of(ids: Sequence[int]) -> str:
    return "".join(chr(FIRST + token) for token in ids)


def ids_in(text: str) -> list[int]:
    return [ord(character) - FIRST for character in text]


def tier(url: str, **settings: Any) -> TierConfig:
    return TierConfig(**{"name": "other", "engine": "openai", "url": url, "model": "tiny", **settings})


@contextmanager
def served(engine: Engine) -> Iterator[str]:
    """Serve an engine at the URL that is yielded."""
    capabilities = engine.start()

    async def answer(request: Request) -> Response:
        body = json.loads(await request.body())
        chat = "messages" in body
        ids = ids_in(body["messages"][-1]["content"] if chat else body["prompt"])
        if len(ids) + body["max_tokens"] > capabilities.context_tokens:
            error = {"message": "too long", "code": "context_length_exceeded"}
            return JSONResponse({"error": error}, status_code=400)
        sampling = EngineSampling(
            body["max_tokens"], body.get("temperature", 0.0), body.get("top_p", 1.0), body.get("seed"),
            tuple(ids_in("".join(body.get("stop", ())))),
        )  # fmt: skip
        return StreamingResponse(pieces(engine, ids, sampling, chat), media_type="text/event-stream")

    routes = [Route(f"/v1/{path}", answer, methods=["POST"]) for path in ("chat/completions", "completions")]
    try:
        with on_socket(Starlette(routes=routes)) as url:  # type: ignore[arg-type]
            yield f"{url}/v1"
    finally:
        engine.stop()


async def pieces(engine: Engine, ids: list[int], sampling: EngineSampling, chat: bool) -> AsyncGenerator[bytes, None]:
    """The events of one answer, cut into pieces of ``PIECE`` bytes."""
    rest, count = b": they may begin with a comment\n\n", 0

    def event(text: str, finish: str | None) -> bytes:
        said = {"delta": {"content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": finish, **said}
        return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\r\n\r\n".encode()

    async with aclosing(engine.submit(ids, sampling)) as deltas:
        async for delta in deltas:
            count += len(delta.ids)
            kept = [token for token in delta.ids if token not in sampling.stop_ids]
            rest += event(text_of(kept), delta.finish or None)
            while len(rest) > PIECE:
                yield rest[:PIECE]
                rest = rest[PIECE:]
            if not delta.finish:  # all of it but a few bytes in the middle of the last character
                yield rest[:-9]
                rest = rest[-9:]
    usage = {"prompt_tokens": len(ids), "completion_tokens": count}
    yield rest + f"data: {json.dumps({'choices': [], 'usage': usage})}\r\n\r\ndata: [DONE]\r\n\r\n".encode()


class OverHttp:
    """The engine `openai` as an ``Engine``: ids become characters of the prompt, characters of the answer ids."""

    def __init__(self, url: str) -> None:
        self.engine = OpenAIEngine(tier(url, silence_s=120))  # the other side answers one after another

    def start(self) -> Capabilities:
        return self.engine.start()

    def submit(
        self, ids: Sequence[int], sampling: EngineSampling, adapter: str | None = None
    ) -> AsyncGenerator[TokenDelta, None]:
        asked = TextSampling(sampling.max_new_tokens, sampling.temperature, sampling.top_p, sampling.seed)
        return self._deltas(self.engine.submit(text_of(ids), asked, adapter))

    async def _deltas(self, written: Any) -> AsyncGenerator[TokenDelta, None]:
        async with aclosing(written):
            async for piece in written:
                yield TokenDelta(tuple(ids_in(piece.text)), piece.finish)

    def stats(self) -> EngineStats:
        return self.engine.stats()

    def stop(self, drain_s: float = 0.0) -> None:
        self.engine.stop(drain_s)
