"""``/v1/responses`` as OpenAI shapes its replies: one object, or events by name that build it up."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from serve_apps.api.response_request import ResponseRequest
from serve_apps.api.responses import WORD
from serve_apps.gateway.exchange import Done, Event, TextDelta

_MARKER = re.compile(r"(?<!\w)\[(\d{1,2})\]")  # behind a word it is code: `row[1]`
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseShape:
    """One reply's shape; ids are the request's, as in the logs. Also how its events look on the wire (``Framing``)."""

    end = b""  # the event `response.completed` says that this was all

    def __init__(self, request_id: str, body: ResponseRequest) -> None:
        name = request_id.removeprefix("req_")
        self._id, self._item, self._body = f"resp_{name}", f"msg_{name}", body
        self._created, self._sent = int(time.time()), 0

    # -- the object ---------------------------------------------------------------------------------------------------
    def whole(self, text: str, done: Done) -> dict[str, Any]:
        """The reply that is not streamed, and what a stream ends with."""
        why = _INCOMPLETE.get(done.finish_reason)
        counted = {
            "input_tokens": done.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": done.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": done.prompt_tokens + done.completion_tokens,
        }
        return {
            **self._head("incomplete" if why else "completed"),
            "incomplete_details": {"reason": why} if why else None,
            "output": [self._message(text, done)],
            "usage": counted,
            "plinth": done.plinth,
        }

    def _head(self, status: str) -> dict[str, Any]:
        """The response without its output; what was asked for is given back."""
        body = self._body
        return {
            "id": self._id, "object": "response", "created_at": self._created, "status": status, "error": None,
            "incomplete_details": None, "model": body.model, "output": [], "usage": None, "background": False,
            "instructions": body.instructions, "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {}, "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "store": False,
            "temperature": body.temperature, "text": {"format": {"type": "text"}}, "tool_choice": "none", "tools": [],
            "top_p": body.top_p, "truncation": "auto", "user": body.user,
        }  # fmt: skip

    def _message(self, text: str, done: Done) -> dict[str, Any]:
        status = "incomplete" if done.finish_reason in _INCOMPLETE else "completed"
        return {**self._opened(), "status": status, "content": [_part(text, file_citations(text, done))]}

    def _opened(self) -> dict[str, Any]:
        return {"id": self._item, "type": "message", "status": "in_progress", "role": "assistant", "content": []}

    # -- the stream ---------------------------------------------------------------------------------------------------
    async def events(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Groups of events: the opening with the first text, word by word as it becomes free, then all that closes."""
        opening, said = self._opening(), ""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta):
                    said += event.text
                    words = [
                        self._at_part("output_text.delta", delta=word, logprobs=[]) for word in WORD.findall(event.text)
                    ]
                    yield [*opening, *words]
                else:
                    yield [*opening, *self._closing(said, event)]
                opening = []

    def _opening(self) -> list[dict[str, Any]]:
        return [
            self._event("created", response=self._head("in_progress")),
            self._event("in_progress", response=self._head("in_progress")),
            self._event("output_item.added", output_index=0, item=self._opened()),
            self._at_part("content_part.added", part=_part("", [])),
        ]

    def _closing(self, text: str, done: Done) -> Iterator[dict[str, Any]]:
        cited = file_citations(text, done)
        for place, annotation in enumerate(cited):
            yield self._at_part("output_text.annotation.added", annotation_index=place, annotation=annotation)
        yield self._at_part("output_text.done", text=text, logprobs=[])
        yield self._at_part("content_part.done", part=_part(text, cited))
        yield self._event("output_item.done", output_index=0, item=self._message(text, done))
        response = self.whole(text, done)
        yield self._event(response["status"], response=response)

    def _at_part(self, name: str, **fields: Any) -> dict[str, Any]:
        return self._event(name, item_id=self._item, output_index=0, content_index=0, **fields)

    def _event(self, name: str, **fields: Any) -> dict[str, Any]:
        # ``encode`` numbers it, when it is sent.
        return {"type": f"response.{name}", **fields}

    # -- on the wire --------------------------------------------------------------------------------------------------
    def encode(self, event: dict[str, Any]) -> bytes:
        """One server-sent event with its name and its number in the stream. ASCII only, as in ``streaming.encode``."""
        numbered = {"type": event["type"], "sequence_number": self._sent, **event}
        self._sent += 1
        return f"event: {event['type']}\ndata: {json.dumps(numbered, separators=(',', ':'))}\n\n".encode()

    def failure(self, error: dict[str, Any]) -> dict[str, Any]:
        """The event ``error``; the body of an error reply is in it too, which OpenAI's SDK raises."""
        inner = error["error"]
        return {"type": "error", "code": inner["code"], "message": inner["message"], "param": inner["param"], **error}


def _part(text: str, cited: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": cited, "logprobs": []}


def file_citations(text: str, done: Done) -> list[dict[str, Any]]:
    """A file citation for every marker [n] in the text that has a citation; ``index``: where the marker begins."""
    cited = done.plinth["citations"]
    return [
        {
            "type": "file_citation",
            "index": marker.start(),
            "file_id": cited[int(marker[1]) - 1]["chunk"],
            "filename": cited[int(marker[1]) - 1]["document"],
        }
        for marker in _MARKER.finditer(text)
        if 1 <= int(marker[1]) <= len(cited)
    ]
