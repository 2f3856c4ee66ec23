"""The moving window over a stream: text leaves only when a guard has seen it together with what follows it.

The gateway pushes what a tier says, has ``text()`` checked by a guard, and hands the findings to ``release``, which
returns what may go out, redacted. A character is released once ``hold_back`` checked characters follow it, so anything
up to that length is found wherever the stream was cut, and what was released last stays in the window as left context.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve_apps.collaborators import Span
from serve_apps.guards.characters import visible


class Placeholders:
    """``<EMAIL_1>`` and so on: the same value gets the same placeholder throughout one reply."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._used: dict[str, int] = {}

    def of(self, kind: str, value: str) -> str:
        if (kind, value) not in self._numbers:
            self._used[kind] = self._used.get(kind, 0) + 1
            self._numbers[kind, value] = self._used[kind]
        return f"<{kind}_{self._numbers[kind, value]}>"

    def redact(self, text: str, spans: Sequence[Span], begin: int = 0, end: int | None = None) -> str:
        """``text[begin:end]`` with every span replaced; a span that began before ``begin`` hides its rest."""
        parts, place, end = [], begin, len(text) if end is None else end
        for span in spans:
            if span.end <= place or span.start >= end:
                continue
            parts.append(text[place : max(span.start, place)])
            parts.append(self.of(span.type, text[span.start : span.end]))
            place = span.end
        parts.append(text[place:end])
        return "".join(parts)


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

    def release(self, spans: Sequence[Span], final: bool) -> str:
        """The text that may go out, given what a guard found in ``text()``.

        Nothing may be pushed between ``text()`` and ``release()``. With ``final`` everything leaves.
        """
        limit = len(self._text) if final else max(self._released, len(self._text) - self._hold_back)
        for span in spans:
            if self._released <= span.start < limit < span.end:
                limit = span.end  # found whole, because it is not longer than what is held back
        out = self._placeholders.redact(self._text, spans, self._released, limit)
        # Twice the hold-back as left context: a word that starts in what has left is seen whole.
        cut = max(0, limit - 2 * self._hold_back)
        self._text, self._released = self._text[cut:], limit - cut
        return out
