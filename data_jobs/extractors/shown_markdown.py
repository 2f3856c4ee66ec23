"""Markdown without what its reader does not see: the bytes of pictures (their descriptions stay) and comments.

Code is shown as it is: fenced, fenced in a quotation, indented, or in a line. What begins first decides: a comment may
hold a fence, and code a comment.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from data_jobs.extractors.protocol import Skipped
from data_jobs.text.fences import fenced_blocks

# Pictures as text: in a link, as the target of a reference, in an HTML element, anywhere else.
_DATA = r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*,[^\s)>\"']*"
_PICTURE = re.compile(rf"!\[([^\]]*)\]\(\s*<?{_DATA}>?(?:\s+[\"'][^\"'\n]*[\"'])?\s*\)")
_PICTURE_ELEMENT = re.compile(rf"<img\b[^<>]*?\bsrc\s*=\s*[\"']?{_DATA}[^<>]*>", re.I)
_PICTURE_TARGET = re.compile(rf"^[ ]{{0,3}}\[([^\]\n]+)\]:[ \t]*<?{_DATA}>?.*$\n?", re.M)
_BYTES = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*;base64,[A-Za-z0-9+/=_%-]{64,}")
_REMARK = re.compile(r"^[ ]{0,3}\[(?://|#|comment)\]:[ \t]+(?:#|<>)[ \t]+(?:\(.*\)|\".*\"|'.*')[ \t]*$\n?", re.M)
_REFERENCE = re.compile(r"!\[([^\]\n]*)\](?:\[([^\]\n]*)\])?")
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.I)
_QUOTATION = re.compile(r"^[ ]{0,3}(?:>[ ]?)+", re.M)
_INDENTED = re.compile(r"(?:\A|(?<=\n)[ \t]*\n)(?=(?:[ ]{4}|\t)[ \t]*\S)(?:(?:[ ]{4}|\t)[^\n]*(?:\n|\Z)|[ \t]*\n)+")
_LIST_OR_NOTE = re.compile(r"[ ]{0,3}(?:(?:[-+*]|\d{1,9}[.)]|:|!!!|\?\?\?)\s|\[\^)|[ \t]")
_MAX_LOOKS = 100  # a text made of comments that cut fences in two is not looked at for ever


def shown_markdown(text: str, skipped: Skipped) -> str:
    """The text without the bytes of pictures and without comments; both are counted."""
    if "<!--" in text:
        text = _without_comments(text, skipped)
    if "]: " in text:
        text = _without_remarks(text, skipped)
    if "data:" in text:
        text = _without_pictures(text, skipped)
    return text


def _without_comments(text: str, skipped: Skipped) -> str:
    parts: list[str] = []
    looks = 0
    while looks < _MAX_LOOKS:
        looks += 1
        code, number, at, again = list(_code(text)), 0, 0, False
        while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 2)) >= 0:
            while number < len(code) and (code[number][1] <= start or code[number][0] < at):
                number += 1
            if number < len(code) and code[number][0] <= start:
                parts.append(text[at : code[number][1]])
                at = code[number][1]
                continue
            parts.append(text[at:start])
            skipped["hidden"] += 1
            at = end + 3
            # Code that begins in the comment is none, and its end may be the beginning of other code.
            again = any(begin < at < close for begin, close in code[number : number + 2])
            if again:
                break
        text = text[at:]
        if not again:
            break
    return "".join((*parts, text))


def _without_remarks(text: str, skipped: Skipped) -> str:
    """Without ``[//]: # (a remark)``: a link's target that no link has."""

    def remark(found: re.Match[str]) -> str:
        skipped["hidden"] += 1
        return ""

    return _replaced(_REMARK, remark, text)


def _without_pictures(text: str, skipped: Skipped) -> str:
    def described(found: re.Match[str]) -> str:
        skipped["images"] += 1
        return found[1]

    def alternative(found: re.Match[str]) -> str:
        skipped["images"] += 1
        alt = _ALT.search(found[0])
        return (alt[1] or alt[2] or "") if alt else ""

    def unread(found: re.Match[str]) -> str:
        skipped["images"] += 1
        return ""

    names: set[str] = set()

    def target(found: re.Match[str]) -> str:
        names.add(found[1].lower())
        return ""

    def referred(found: re.Match[str]) -> str:
        return described(found) if (found[2] or found[1]).lower() in names else found[0]

    text = _replaced(_PICTURE_TARGET, target, text)
    text = _replaced(_PICTURE, described, text)
    text = _replaced(_PICTURE_ELEMENT, alternative, text)
    text = _replaced(_BYTES, unread, text)
    return _replaced(_REFERENCE, referred, text) if names else text


def _replaced(pattern: re.Pattern[str], by: Callable[[re.Match[str]], str], text: str) -> str:
    """What a pattern finds outside of code, replaced."""
    if pattern.search(text) is None:
        return text
    code = list(_code(text))
    starts = [start for start, _ in code]

    def outside(found: re.Match[str]) -> str:
        number = bisect.bisect_right(starts, found.start()) - 1
        return found[0] if number >= 0 and found.start() < code[number][1] else by(found)

    return pattern.sub(outside, text)


def _code(text: str) -> Iterator[tuple[int, int]]:
    """Spans of code in order, not overlapping."""
    fences = fenced_blocks(text)
    if _QUOTATION.search(text):
        plain = _QUOTATION.sub(lambda found: " " * len(found[0]), text)
        quoted = (
            (start, end) for start, end in fenced_blocks(plain)
            if all(line.lstrip().startswith(">") for line in text[text.rfind("\n", 0, start) + 1 : end].split("\n"))
        )  # fmt: skip
        fences = sorted({*fences, *quoted})
    at = 0
    for start, end in fences:
        if start >= at:
            yield from _code_between(text, at, start)
            yield start, end
            at = end
    yield from _code_between(text, at, len(text))


def _code_between(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Indented code and spans of code in a stretch without fences."""
    at = begin
    for found in _INDENTED.finditer(text, begin, end):
        above = text[begin : found.start()].rstrip().rpartition("\n")[2]
        if not _LIST_OR_NOTE.match(above):
            yield from _spans(text, at, found.start())
            yield found.span()
            at = found.end()
    yield from _spans(text, at, end)


def _spans(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of code: from a run of backticks to the next one as long, within a paragraph."""
    runs = [found.span() for found in re.compile("`+").finditer(text, begin, end)]
    if len(runs) < 2:
        return
    places: dict[int, list[int]] = defaultdict(list)
    for start, stop in runs:
        places[stop - start].append(start)
    breaks = [found.start() for found in re.compile(r"\n[ \t]*\n").finditer(text, begin, end)]
    at = begin
    for start, stop in runs:
        if start < at or text[max(begin, start - 1) : start] == "\\":
            continue
        same = places[stop - start]
        following = bisect.bisect_right(same, start)
        limit = bisect.bisect_right(breaks, start)
        if following < len(same) and (limit == len(breaks) or same[following] < breaks[limit]):
            at = same[following] + stop - start
            yield start, at
