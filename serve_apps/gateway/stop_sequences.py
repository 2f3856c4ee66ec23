"""Stop sequences and the token limit.

The gateway applies both to text that a guard has already released. After the guard, not before it: a limit or stop
sequence chosen by the client could otherwise cut an address in two, and a guard does not recognise half of one. A model
looks for stop sequences too, only to end its work early.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve_apps.gateway.token_counts import TokenCounter


class StopSequences:
    """Passes text on up to the first stop sequence; ``met`` is set once there was one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.met = False

    def feed(self, text: str, final: bool = False) -> str:
        """Take more text and return what no stop sequence can begin in any more; with ``final`` all there is."""
        if self.met:
            return ""
        text = self._held + text
        place = min((found for stop in self._stops if (found := text.find(stop)) >= 0), default=-1)
        if place >= 0:
            self._held, self.met = "", True
            return text[:place]
        keep = 0 if final else self._partial(text)
        text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return text

    def _partial(self, text: str) -> int:
        """Length of the longest end of ``text`` that a stop sequence may begin with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class Shaper:
    """Feeds on released text and says what the client gets; ``finish`` is set once the client gets no more."""

    def __init__(self, tokens: TokenCounter, limit: int | None, stops: Sequence[str]) -> None:
        self._tokens, self._limit, self._stops = tokens, limit, StopSequences(stops)
        self._sent = ""
        self.finish: str | None = None

    @property
    def sent(self) -> str:
        """All text the client got so far."""
        return self._sent

    def feed(self, text: str, final: bool = False) -> str:
        """Take released text; return the part of all text so far that may be sent now."""
        if self.finish:
            return ""
        text = self._stops.feed(text, final)
        if self._stops.met:
            self.finish = "stop"
        if self._limit is not None and self._tokens.count(self._sent + text) > self._limit:
            whole = self._tokens.cut(self._sent + text, self._limit)
            text, self.finish = whole[len(self._sent) :], "length"
        self._sent += text
        return text
