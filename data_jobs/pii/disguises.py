"""Ways of writing a character that hide it from a pattern: HTML entities, percent signs, ``[.]``, ``(dot)``, blanks.

Undone only where the neighbours say that a number, an address or a key is being written, so that code and prose stay
what they are. Each is a handful of characters, looked for only where the text holds its rarest part.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator

Edit = tuple[int, int, str]  # text[start:end] stands for this

_ENTITIES = {
    "&nbsp;": " ", "&thinsp;": " ", "&ensp;": " ", "&emsp;": " ", "&commat;": "@", "&period;": ".", "&hyphen;": "-",
    "&dash;": "-", "&ndash;": "-", "&minus;": "-", "&plus;": "+", "&lowbar;": "_", "&colon;": ":", "&equals;": "=",
    "&quot;": '"', "&apos;": "'", "&sol;": "/", "&lpar;": "(", "&rpar;": ")", "&shy;": "", "&zwnj;": "",
}  # fmt: skip
_ENTITY = re.compile(r"&(?:#(\d{2,3})|#[xX]([0-9a-fA-F]{2})|[a-z]{3,7});")
# What a percent sign may stand for, and what must stand before it and behind it.
_PERCENT = re.compile(r"%(?:20|2[bBdDeE]|3[aAdD]|40)")
_STANDS_FOR = {
    "20": (" ", r"\d", r"\d"), "2b": ("+", "", r"\d"), "2d": ("-", r"\d", r"\d"), "2e": (".", r"\w", r"\w"),
    "3a": (":", "[A-Za-z]", r"[\w(+]"), "3d": ("=", "[A-Za-z]", r"[\w(+]"),
    # Not in the password of a URL, behind which the real @ follows.
    "40": ("@", r"[\w.-]", r"(?:[\w-]{1,63}\.){1,6}[A-Za-z]{2,24}(?![\w@%-]|\.\w)"),
}  # fmt: skip
_BETWEEN = {
    code: (said, re.compile(before or r"[\s\S]"), re.compile(after))
    for code, (said, before, after) in _STANDS_FOR.items()
}
# fjellheim(dot)no, 81[.]2[.]69[.]142, 81 dot 2 dot 69
_DOT = re.compile(r"(?:[\[({<] ?(?:\.|dot|DOT|Dot|punkt|PUNKT|point|punto) ?[\])}>]|(?<=\d )(?:dot|DOT|\.)(?= \d))")
_HAS_DOT = ("dot", "DOT", "Dot", "unkt", "UNKT", "point", "punto", "[.]", "(.)", "{.}", " . ", "<.>", "[ . ]", "( . )")
_BREAK = re.compile(r"\n(?<=\d-\n)(?=\d)")
_BREAK_BEHIND_COUNTRY = re.compile(r"\n(?:(?<=\+\d\n)|(?<=\+\d\d\n)|(?<=\+\d\d\d\n))(?=\(?\d)")
_BLANKS = re.compile(r"  (?<=[^\W_]  )(?=[^\W_])")
_STARS = re.compile(r"\*\*(?:(?<=[A-Za-z]\*\*)(?=[A-Za-z0-9])|(?<=\d\*\*)(?=[A-Za-z]))")


def undisguised(text: str) -> tuple[str, Undone | None]:
    """The text with disguises undone, and what maps its places back; None where there was none."""
    edits = sorted(_edits(text))
    return (text, None) if not edits else _applied(text, edits)


def _edits(text: str) -> Iterator[Edit]:
    if "&" in text and ";" in text:
        yield from _said(text, _ENTITY, _entity)
    if "%" in text:
        yield from _said(text, _PERCENT, _percent)
    if any(sign in text for sign in _HAS_DOT):
        yield from _dots(text)
    if "-\n" in text:
        yield from ((*match.span(), "") for match in _BREAK.finditer(text))
    if "\n" in text and "+" in text:
        yield from ((*match.span(), " ") for match in _BREAK_BEHIND_COUNTRY.finditer(text))
    if "  " in text:
        yield from ((*match.span(), " ") for match in _BLANKS.finditer(text))
    if "**" in text:
        yield from ((*match.span(), "") for match in _STARS.finditer(text))


def _said(text: str, pattern: re.Pattern[str], stands_for: Callable[[re.Match[str]], str | None]) -> Iterator[Edit]:
    for match in pattern.finditer(text):
        said = stands_for(match)
        if said is not None:
            yield *match.span(), said


def _entity(match: re.Match[str]) -> str | None:
    if match[1] or match[2]:
        code = int(match[1]) if match[1] else int(match[2], 16)
        return " " if code == 0xA0 else chr(code) if 0x20 <= code < 0x7F else None
    return _ENTITIES.get(match[0])


def _percent(match: re.Match[str]) -> str | None:
    said, before, after = _BETWEEN[match[0][1:].lower()]
    start, end = match.span()
    if said == "+":
        return said if after.match(match.string, end) else None
    # The character before may itself be written with a percent sign.
    return said if start and before.match(match.string, start - 1) and after.match(match.string, end) else None


def _dots(text: str) -> Iterator[Edit]:
    """With the blank on either side that belongs to it, between letters or digits."""
    for match in _DOT.finditer(text):
        start, end = match.span()
        start -= text[start - 1 : start] == " "
        end += text[end : end + 1] == " "
        if start and text[start - 1].isalnum() and text[end : end + 1].isalnum():
            yield start, end, "."


def _applied(text: str, edits: list[Edit]) -> tuple[str, Undone]:
    parts, kept, at, size = [], [], 0, 0
    for start, end, said in edits:
        if start < at:
            continue
        parts += [text[at:start], said]
        size += start - at
        kept.append((size, size + len(said), start, end))
        size += len(said)
        at = end
    return "".join([*parts, text[at:]]), Undone(kept)


class Undone:
    """Maps places behind edits to those before them.

    Args:
        edits: of each the place of what it says, ``[begin, finish)``, and of what was there, ``[start, end)``.
    """

    def __init__(self, edits: list[tuple[int, int, int, int]]) -> None:
        self._edits = edits
        self._begins = [edit[0] for edit in edits]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The place of ``[start, end)``, not empty, in the text before; what an edit says counts as a whole."""
        return self._moved(start, last=False), self._moved(end - 1, last=True) + 1

    def _moved(self, place: int, last: bool) -> int:
        index = bisect.bisect_right(self._begins, place) - 1
        if index < 0:
            return place
        _, finish, start, end = self._edits[index]
        if place < finish:
            return end - 1 if last else start
        return end + place - finish
