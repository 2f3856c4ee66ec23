"""One streamed answer of the service, timed: shared by what measures tokens and by what replays traces."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from cluster.core.errors import BadInputError


@dataclass(frozen=True)
class Reply:
    """One answer: tokens generated, seconds to the first text (0: it has none) and in all, tokens of the prompt, and
    whether another tier than the one asked for gave it (Plinth says so of its own)."""

    tokens: int
    first_s: float
    all_s: float
    prompt_tokens: int = 0
    degraded: bool = False


async def streamed(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Reply:
    """POST a chat or a completion as a stream with its usage, and read it to the end.

    Raises:
        httpx.HTTPStatusError: it was refused.
        httpx.HTTPError: the connection failed.
        BadInputError: the stream ended in an error, or broke off.
    """
    begun, first, usage, whole, elsewhere = time.perf_counter(), 0.0, dict[str, Any](), False, False
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", path, json=asked) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            whole = whole or line == "data: [DONE]"
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise BadInputError(str(event["error"]))
            choices = event.get("choices", ())
            if not first and any(map(_text, choices)):
                first = time.perf_counter() - begun
            # Some servers (`transformers serve`) say how an answer ended, and nothing after it.
            whole = whole or any(choice.get("finish_reason") for choice in choices)
            usage = event.get("usage") or usage
            elsewhere = elsewhere or degraded(event)
    if not whole:
        raise BadInputError("the stream broke off")
    seconds = time.perf_counter() - begun
    return Reply(usage.get("completion_tokens", 0), first, seconds, usage.get("prompt_tokens", 0), elsewhere)


def degraded(said: dict[str, Any]) -> bool:
    """Whether a reply or a chunk of one says that another tier answered than the one asked for."""
    return bool((said.get("plinth") or {}).get("degraded"))


def _text(choice: dict[str, Any]) -> str:
    """What a choice of a chunk brings, of a chat or of a completion."""
    return choice.get("text") or (choice.get("delta") or {}).get("content") or ""
