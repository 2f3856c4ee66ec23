"""The form of a text in which the rules look: what differs in writing only is written in one way.

Compatibility characters (full-width digits, no-break blanks) and the digits of all scripts become plain ones,
typographic dashes become hyphens and such quotation marks straight ones, Markdown's emphasis becomes blanks, and a
blank is put where a script that is written without blanks meets Latin letters or digits. So a rule's borders may be
borders of words, whatever the language. Two blanks between words become one; entities, percent signs and ``[.]`` become
what they stand for where a number or an address is written with them (``disguises``). Places are mapped back to the
text given.
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata

from data_jobs.pii.disguises import undisguised

_WRITTEN_AS = (
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\u058a\ufe58\ufe63\uff0d", "-")
    | dict.fromkeys("\u2014\u2015", " ")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
)
# Han, kana, Hangul, Thai, Lao, Tibetan, Burmese, Khmer: words stand there without blanks or take endings.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7ff"
    "\U00020000-\U0003ffff"
)
_MEETING = re.compile(f"(?<=[{_UNSPACED}])(?=[0-9A-Za-z+(])|(?<=[0-9A-Za-z)])(?=[{_UNSPACED}])")
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]").search
# Backticks, and asterisks and underscores around words. Those within a word (2**63, a_b, base64url) are part of it.
_EMPHASIS = re.compile(
    r"`+|(?<![\w*])\*{1,3}(?=[^\s*])|(?<=[^\s*])\*{1,3}(?![\w*])"
    r"|(?<![^\s(\[{\"'*|>\x80-\U0010ffff])_{1,3}(?=[^\W_])"
    r"|(?<=[^\W_])_{1,3}(?=[.,;:!?)\]}\"'*|<]{0,3}(?:[\s\x80-\U0010ffff]|\Z))"
)
_HAS_MARKS = re.compile("[`*_]").search


def lower(text: str) -> str:
    """In lower case, every character at its place: letters that become two (İ) stay as they are."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


class _Plain(dict[int, str]):
    """For ``str.translate``: each character's plain form, worked out once."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        plain = _WRITTEN_AS.get(char) or unicodedata.normalize("NFKC", char)
        if len(plain) == 1 and plain.isdecimal():  # Arabic, Devanagari, Thai and other digits
            plain = str(unicodedata.decimal(plain))
        self[code] = plain
        return plain


_PLAIN = _Plain()


class Form:
    """A text and the form of it that rules look at.

    Attributes:
        text: the form. A finding in it at ``[start, end)`` is one of the original at ``original(start, end)``.
    """

    def __init__(self, text: str) -> None:
        self._source = text
        self._plain = text if text.isascii() else text.translate(_PLAIN)
        marked, self._undone = undisguised(self._plain)
        if _HAS_MARKS(marked):
            marked = _EMPHASIS.sub(lambda match: " " * len(match[0]), marked)
        self._cuts: list[int] = []
        if not marked.isascii() and _HAS_UNSPACED(marked):
            parts = _MEETING.split(marked)
            self._cuts = list(itertools.accumulate(map(len, parts[:-1])))
            marked = " ".join(parts)
        # Where the blanks stand in the form: each moves the later ones on by one.
        self._blanks = [cut + number for number, cut in enumerate(self._cuts)]
        self.text = marked
        self._places: list[int] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The place in the text given of what stands in the form at ``[start, end)``, which is not empty."""
        start -= bisect.bisect_left(self._blanks, start)
        end -= bisect.bisect_left(self._blanks, end)
        if self._undone:
            start, end = self._undone.original(start, end)
        if len(self._plain) == len(self._source):  # no character becomes none, so each became one
            return start, end
        if self._places is None:
            sizes = (len(_PLAIN[ord(char)]) for char in self._source)
            self._places = [place for place, size in enumerate(sizes) for _ in range(size)]
        return self._places[start], self._places[end - 1] + 1
