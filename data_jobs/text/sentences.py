"""Where sentences begin and end in plain text, reStructuredText and Markdown, as exact offsets.

Rules, not a model: they must run on every chunk of a corpus and, in the answerer, on what is quoted, with the same
result. A sentence ends at ``. ! ?`` (or their East Asian forms) before white space and something that starts a
sentence; not after common abbreviations, initials or inside a dotted name. Blank lines, list items, headings, prompts
and directives end a sentence too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

_END = re.compile(r"[.!?]+[\"')\]`*]*(?=\s|$)|[。！？]+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:e\.g|i\.e|etc|cf|vs|approx|resp|incl|esp|al|fig|figs|no|nos|vol|pp?|eq|sec|ch|dr|mr|mrs|ms|prof"
    r"|st|jr|sr|inc|ltd|co|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|u\.s|u\.k|[A-Z])\.$",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"\n[ \t]*(?=\n)"  # a blank line
    r"|\n(?=[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t])"  # a list item
    r"|\n(?=[ \t]*(?:#{1,6}[ \t]|>>>|\.\.[ \t]|:[\w ]+:|```|~~~))"  # a heading, prompt, directive, field or fence
    r"|\n(?=[ \t]*[=\-~^\"'#*+.]{3,}[ \t]*(?:\n|$))"  # an underline
)


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """Sentence spans of ``text[start:end]`` in order: trimmed, not empty, not overlapping."""
    stop = len(text) if end is None else end
    at = start
    for match in _BREAK.finditer(text, start, stop):
        yield from _within(text, at, match.start())
        at = match.end()
    yield from _within(text, at, stop)


def _within(text: str, start: int, end: int) -> Iterator[Span]:
    """Sentences of a run of prose without structural breaks."""
    at = start
    for match in _END.finditer(text, start, end):
        if match.end() < end and not _ends(text, at, match.end(), end):
            continue
        yield from trimmed(text, at, match.end())
        at = match.end()
    yield from trimmed(text, at, end)


def _ends(text: str, start: int, at: int, end: int) -> bool:
    """Whether the stop before ``at`` ends a sentence, judged by what stands on both sides of it."""
    if text[at - 1] in "。！？":
        return True
    following = text[at:end].lstrip()[:1]
    if following.islower() and "\n" not in text[at : at + 1]:
        # `etc. and so on`; a lower-case code name may start a sentence, but only on a new line is it likely.
        return False
    return not _ABBREVIATION.search(text, max(start, at - 12), at)


def trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """The span without white space at its ends; nothing where only white space is left."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def unreadable(text: str) -> float:
    """Penalty for text that is no sentence: code, tables, markup, headings, fragments."""
    words = text.split()
    if not words:
        return 1.0
    letters = sum(word.strip("\"'“”‘’().,;:!?*_`").replace("-", "").isalpha() for word in words) / len(words)
    penalty = 0.4 * max(0.0, 0.75 - letters) / 0.75
    if len(words) < 4:
        penalty += 0.1
    if re.match(r"\s*(?:>>>|\.\. |\||#+ |```|<[a-z!/]|\{[{%])", text):
        penalty += 0.4
    if re.match(r"\s*[\w.]+\s*=\s|\s*[\w.]+\(.*\)\s*->", text):
        penalty += 0.3  # a signature or an assignment
    if re.search(r"\]\(|\]\[|<!--|https?://", text):
        penalty += 0.05  # links read badly in the raw
    ending = text.rstrip("\"')*_ \n")[-1:]
    if ending == "?":
        penalty += 0.2  # a question does not answer one
    if ending == ":":
        penalty += 0.08  # what it announces is not in it
    return penalty
