"""What another OpenAI-compatible server says: the events of an answer, and the codes of its errors.

Nothing of it is trusted: an answer that does not end is an error, and of an error only a code leaves this module, since
the words around it may quote key or prompt.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from serve_apps.engines.protocol import Finish
from serve_apps.errors import UnavailableError

DONE = "[DONE]"
MOST_ERROR_BYTES, ERROR_S = 65_536, 2.0
_CODE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Written:
    """New text since the last piece. ``finish`` is set on the last one, which may be empty and has the other server's
    counts of tokens (0 where it does not say)."""

    text: str
    finish: Finish = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Answer:
    """What the events of one reply add up to.

    Args:
        host: who answers, for errors.
        most: characters that an answer may have.

    Attributes:
        finish: how the text ended; empty until it has.
        over: the other server said that nothing follows.
    """

    def __init__(self, host: str, most: int) -> None:
        self._host, self._most = host, most
        self._half = ""  # the first half of a character that came in two
        self._chars = 0
        self._usage: Mapping[str, Any] = {}
        self.finish: Finish = ""
        self.over = False

    def take(self, event: str) -> str:
        """The text that one event adds.

        Raises:
            UnavailableError: it is an error of the other server, or nothing that could be understood.
        """
        if event.strip() == DONE:
            self.over = True
            return ""
        try:
            found = json.loads(event)
            if error := found.get("error"):
                code = _code_of(error)
                raise UnavailableError(f"{self._host} failed in the middle of its answer{f' ({code})' if code else ''}")
            self._usage = found.get("usage") or self._usage
            choice = next((one for one in found.get("choices") or () if one.get("index", 0) == 0), None)
            text = self._said(choice) if choice is not None else ""
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise UnavailableError(f"{self._host} sent something that is no part of an answer") from None
        self._chars += len(text)
        if self._chars > self._most:
            raise UnavailableError(f"{self._host} wrote more than it was asked for")
        return text

    def _said(self, choice: Mapping[str, Any]) -> str:
        text = choice.get("text") if "text" in choice else (choice.get("delta") or {}).get("content")
        if reason := choice.get("finish_reason"):
            if reason not in ("stop", "length"):
                code = reason if isinstance(reason, str) and _CODE.fullmatch(reason) else "unknown"
                raise UnavailableError(f"{self._host} ended its answer before its end ({code})")
            self.finish = reason
        if text is not None and not isinstance(text, str):
            raise ValueError("text is no text")
        return self._whole(text or "")

    def _whole(self, text: str) -> str:
        """Characters whose halves (UTF-16) came one by one are put together; a half alone is none."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff" and not self.finish:
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if _HALF.search(text) else text

    def end(self) -> Written:
        """The last piece.

        Raises:
            UnavailableError: the stream ended, and the answer did not.
        """
        if not (self.finish or self.over):
            raise UnavailableError(f"{self._host} broke off its answer")
        counts = (self._usage.get(name) if isinstance(self._usage, Mapping) else 0 for name in
                  ("prompt_tokens", "completion_tokens"))  # fmt: skip
        prompt, completion = (count if isinstance(count, int) and 0 <= count < 1 << 31 else 0 for count in counts)
        return Written("", self.finish or "stop", prompt, completion)


async def error_code(reply: httpx.Response) -> str:
    """The code of a reply that is an error; empty where it has none that is one word."""
    data = b""
    try:
        async with asyncio.timeout(ERROR_S):
            async for piece in reply.aiter_raw():
                data += piece
                if len(data) > MOST_ERROR_BYTES:
                    return ""
        return _code_of(json.loads(data).get("error"))
    except (ValueError, TypeError, AttributeError, RecursionError, TimeoutError, httpx.HTTPError):
        return ""


def _code_of(error: Any) -> str:
    for name in ("code", "type"):
        found = error.get(name) if isinstance(error, dict) else None
        if isinstance(found, str) and _CODE.fullmatch(found):
            return found
    return ""
