"""Stop sequences and the token limit, applied to text that a guard has already released.

After the guard, not before it: a limit or stop sequence chosen by the client could otherwise cut an address in two, and
a guard does not recognise half of one.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve_apps.gateway.tokens import Tokens


class Shaper:
    """Feeds on released text and says what the client gets; ``finish`` is set once the client gets no more."""

    def __init__(self, tokens: Tokens, limit: int | None, stops: Sequence[str]) -> None:
        self._tokens, self._limit, self._stops = tokens, limit, tuple(stops)
        self._sent = ""
        self._held = ""
        self.finish: str | None = None

    @property
    def sent(self) -> str:
        return self._sent

    def feed(self, text: str, final: bool = False) -> str:
        """Take released text; return the part of all text so far that may be sent now."""
        if self.finish:
            return ""
        text = self._held + text
        place = min((found for stop in self._stops if (found := text.find(stop)) >= 0), default=-1)
        if place >= 0:
            text, self._held, self.finish = text[:place], "", "stop"
        else:
            keep = 0 if final else self._partial_stop(text)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        if self._limit is not None and self._tokens.count(self._sent + text) > self._limit:
            whole = self._tokens.cut(self._sent + text, self._limit)
            text, self._held, self.finish = whole[len(self._sent) :], "", "length"
        self._sent += text
        return text

    def _partial_stop(self, text: str) -> int:
        """Length of the longest end of ``text`` that a stop sequence may begin with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
