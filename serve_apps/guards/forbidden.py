"""Texts that may not leave, found in whatever letters they are written, while a stream is still growing. Pure.

Text and forbidden text are compared by their letters and digits, whatever stands between them left out, in two ways:
as they are (compatibility forms, case and accents undone), and by what they look like (``data_jobs.safety.views``).
Both go a character at a time, so that it does not matter where a stream was cut. Of a text that may still grow into a
forbidden one not a character is let out: it waits from where that would begin, however far back it is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from data_jobs.safety.views import folded

LONGEST, FEWEST = 200, 3  # characters of a forbidden text, and how many of them are compared at least


@lru_cache(maxsize=1 << 14)
def _plain(char: str) -> str:
    """The letters and digits that one character is."""
    return _letters(unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold()))


@lru_cache(maxsize=1 << 14)
def _alike(char: str) -> str:
    """Those that it looks like, in either case; 0 and O are the same."""
    forms = [folded(form) for form in (char, char.lower(), char.upper())]
    return _letters(next((form for form in forms if form.isascii()), forms[0]).casefold()).replace("0", "o")


def _letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


class _Way:
    """One way to compare: the letters of each character, and the forbidden texts in them."""

    def __init__(self, letters: Callable[[str], str], texts: Sequence[str]) -> None:
        self._letters = letters
        self._wanted = sorted({"".join(map(letters, text)) for text in texts})

    def inside(self, text: str) -> bool:
        seen = "".join(map(self._letters, text))
        return any(wanted in seen for wanted in self._wanted)

    def begun(self, text: str) -> int:
        each = [(letter, place) for place, char in enumerate(text) for letter in self._letters(char)]
        seen = "".join(letter for letter, _ in each)
        begins = len(seen)
        for wanted in self._wanted:
            at = seen.find(wanted[0], max(0, len(seen) - len(wanted) + 1))
            while 0 <= at < begins and not wanted.startswith(seen[at:]):
                at = seen.find(wanted[0], at + 1)
            begins = at if 0 <= at < begins else begins
        return each[begins][1] if begins < len(seen) else len(text)


class Forbidden:
    """Forbidden texts, ready to be looked for.

    Args:
        texts: each with FEWEST letters and digits at least (``comparable``).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._ways = [_Way(letters, texts) for letters in (_plain, _alike)] if texts else []

    def inside(self, text: str) -> bool:
        """Whether one of them is in a text."""
        return any(way.inside(text) for way in self._ways)

    def begun(self, text: str) -> int:
        """From which place on a text that holds none may grow into one; its length where it cannot."""
        return min([len(text), *(way.begun(text) for way in self._ways)])


def comparable(text: str) -> str:
    """What is compared of a text: its letters and digits as they are."""
    return "".join(map(_plain, text))
