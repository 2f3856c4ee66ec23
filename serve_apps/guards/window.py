"""The moving window over a stream: text leaves only when a guard has seen it together with what follows it.

The gateway pushes what a tier says, has ``text()`` checked by a guard, and hands the findings to ``release``, which
returns what may go out, redacted. A character is released once ``hold_back`` checked characters follow it, so anything
up to that length is found wherever the stream was cut. Longer findings are unbroken runs (tokens, keys): a run leaves
only when its end was seen. Or they begin with a marker (private keys): a finding that is still growing keeps its
beginning in the window, as does what was released last. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from serve_apps.guards.characters import visible
from serve_apps.guards.protocol import Span

# Unbroken text at the end. Scripts written without spaces and emoji break a run, else replies in them would not flow.
_BREAKS = r"\s\u2e80-\ud7ff\uf900-\ufaff\U0001f000-\U0003ffff"
_OPEN_RUN = re.compile(f"(?<![^{_BREAKS}])[^{_BREAKS}]+\\Z")


class Placeholders:
    """``<EMAIL_1>`` and so on: the same value gets the same placeholder throughout one reply."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._used: dict[str, int] = {}

    def of(self, kind: str, value: str) -> str:
        """The placeholder of a value; one not seen before gets the next number of its kind, from 1."""
        if (kind, value) not in self._numbers:
            self._used[kind] = self._used.get(kind, 0) + 1
            self._numbers[kind, value] = self._used[kind]
        return f"<{kind}_{self._numbers[kind, value]}>"

    def redact(self, text: str, spans: Sequence[Span], begin: int = 0, end: int | None = None) -> str:
        """``text[begin:end]`` with every span replaced; of one that began before ``begin`` the rest is left out."""
        parts, place, end = [], begin, len(text) if end is None else end
        for span in joined(spans):
            if span.end <= place or span.start >= end:
                continue
            parts.append(text[place : max(span.start, place)])
            if span.start >= begin:
                parts.append(self.of(span.type, text[span.start : span.end]))
            place = span.end
        parts.append(text[place:end])
        return "".join(parts)


def joined(spans: Sequence[Span]) -> list[Span]:
    """Spans of one type that touch, as one: a long finding (a private key) comes in pieces."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].end == span.start and found[-1].type == span.type:
            found[-1] = Span(span.type, found[-1].start, span.end)
        else:
            found.append(span)
    return found


class OutputWindow:
    """See the module. ``hold_back`` must be at least the longest thing a guard can find.

    Args:
        hold_back: characters of checked text that must follow a character before it may leave.
        placeholders: numbering shared with the other texts of the reply.
    """

    def __init__(self, hold_back: int, placeholders: Placeholders) -> None:
        self._hold_back = hold_back
        self._placeholders = placeholders
        self._text = ""
        self._released = 0  # offset in _text; what is before it is left context

    def push(self, text: str) -> None:
        """Add what a tier said, without what a reader cannot see (it could stretch a finding beyond the window)."""
        self._text += visible(text)

    @property
    def pending(self) -> int:
        """Characters not released yet."""
        return len(self._text) - self._released

    def text(self) -> str:
        """What a guard must check now."""
        return self._text

    def release(self, spans: Sequence[Span], final: bool, waits: int | None = None) -> str:
        """The text that may go out, given what a guard found in ``text()``.

        Nothing may be pushed between ``text()`` and ``release()``. With ``final`` everything leaves.

        Args:
            waits: the place from which on text has to wait, though nothing was found in it; None: it need not.
        """
        limit = len(self._text) if final else self._limit()
        if waits is not None and not final:
            limit = max(self._released, min(limit, waits))
        begin = limit
        for span in joined(spans):
            if span.start < limit <= span.end:
                begin, limit = span.start, span.end
        out = self._placeholders.redact(self._text, spans, self._released, limit)
        # Twice the hold-back as left context, more where a finding reaches the limit and may go on behind it.
        cut = max(0, begin - 2 * self._hold_back)
        self._text, self._released = self._text[cut:], limit - cut
        return out

    def _limit(self) -> int:
        """How far text may leave: ``hold_back`` before the end, and not into a run whose end is not there yet."""
        end = len(self._text) - self._hold_back
        run = _OPEN_RUN.search(self._text)
        return max(self._released, min(end, run.start() if run else end))
