"""Response bodies exactly as OpenAI shapes them; what is ours sits under the key ``plinth``."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import re
import struct
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.ledger.amounts import UsageRow
from cluster.core.sections.tiers import AUTO
from serve_apps.gateway.exchange import Done, Event, TextDelta

AT_ONCE = 8  # embeddings that are written before others get the event loop
WORD = re.compile(r"\S+\s*|\s+")  # what a stream gives at a time


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Tokens of prompt and completion, and of both."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


@dataclass(frozen=True)
class ReplyShape:
    """One reply's shape: ``chat`` or legacy ``completions``. ``id`` is the request's, as in the logs."""

    request_id: str
    model: str
    chat: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl-" if self.chat else "cmpl-"
        name = self.request_id.removeprefix("req_")
        return {"id": prefix + name, "object": kind, "created": self.created, "model": self.model}

    def whole(self, text: str, done: Done) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": done.finish_reason}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return {
            **self._head("chat.completion" if self.chat else "text_completion"),
            "choices": [choice],
            "usage": usage(done.prompt_tokens, done.completion_tokens),
            "system_fingerprint": None,
            "plinth": done.plinth,
        }

    def _chunk(self, delta: dict[str, Any] | str, finish_reason: str | None, wants_usage: bool) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        choice["delta" if self.chat else "text"] = delta
        head = self._head("chat.completion.chunk" if self.chat else "text_completion")
        return {**head, "choices": [choice], "system_fingerprint": None, **({"usage": None} if wants_usage else {})}

    async def chunks(
        self, events: AsyncGenerator[Event, None], wants_usage: bool
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Groups of chunks: word by word as it becomes free, then finish reason and ``plinth``, then usage if asked."""
        opening = [self._chunk({"role": "assistant", "content": ""}, None, wants_usage)] if self.chat else []
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta):
                    yield [*opening, *self._words(event.text, wants_usage)]
                else:
                    yield [*opening, *self._end(event, wants_usage)]
                opening = []

    def _words(self, text: str, wants_usage: bool) -> Iterator[dict[str, Any]]:
        for word in WORD.findall(text):
            yield self._chunk({"content": word} if self.chat else word, None, wants_usage)

    def _end(self, done: Done, wants_usage: bool) -> Iterator[dict[str, Any]]:
        yield {**self._chunk({} if self.chat else "", done.finish_reason, wants_usage), "plinth": done.plinth}
        if wants_usage:
            head = self._head("chat.completion.chunk" if self.chat else "text_completion")
            counted = usage(done.prompt_tokens, done.completion_tokens)
            yield {**head, "choices": [], "usage": counted, "plinth": done.plinth}


async def embeddings(
    vectors: Sequence[Sequence[float]], model: str, tokens: int, as_base64: bool, plinth: dict[str, Any]
) -> bytes:
    """A list of embeddings as JSON, each as numbers or as base64 of little-endian float32 (what the SDK asks for by
    itself). Others get the event loop in between: two thousand of them take most of a second to write."""

    def shaped(vector: Sequence[float]) -> str | list[float]:
        if as_base64:
            return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        return [float(value) for value in vector]

    written = []
    for n, vector in enumerate(vectors):
        written.append(_json({"object": "embedding", "index": n, "embedding": shaped(vector)}))
        if n % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    rest = _json({"model": model, "usage": counted, "plinth": plinth})
    return f'{{"object":"list","data":[{",".join(written)}],{rest[1:]}'.encode()


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def search_results(found: Sequence[dict[str, Any]], plinth: dict[str, Any]) -> dict[str, Any]:
    """Passages, best first, each with the fields of a citation."""
    return {"object": "list", "data": [{"object": "search.result", **item} for item in found], "plinth": plinth}


def usage_report(rows: Sequence[UsageRow]) -> dict[str, Any]:
    """The books: a row for each day, key and tier, and the sum of all."""
    counted = ("requests", "prompt_tokens", "completion_tokens", "money")
    total = {name: round(sum(getattr(row, name) for row in rows), 6) for name in counted}
    return {"object": "list", "data": [{"object": "usage", **asdict(row)} for row in rows], "total": total}


def collection_card(facts: dict[str, Any]) -> dict[str, Any]:
    """One entry of the list of collections: what its index is, whether it is the default one and loaded."""
    name = facts["collection"]
    made = int(datetime.datetime.fromisoformat(facts["index_as_of"]).timestamp())
    rest = {key: value for key, value in facts.items() if key != "collection"}
    return {"id": name, "object": "collection", "created": made, "model": f"{AUTO}@{name}", **rest}


def model_card(name: str, created: int, plinth: dict[str, Any]) -> dict[str, Any]:
    """One entry of the list of models; ``plinth`` holds what it is for, and a tier's version and standing."""
    return {"id": name, "object": "model", "created": created, "owned_by": "plinth", "plinth": plinth}
