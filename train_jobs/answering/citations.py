"""Quotations and citations: verbatim slices of passages with their place in the document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.core.records import Citation, Passage

ELLIPSIS = "…"
_WORDS = re.compile(r"\S+")
_LIKE_A_MARKER = re.compile(
    r"^[ \t]*(?P<fence>```|~~~).*?^[ \t]*(?P=fence)|\[(?P<numbers>\d{1,3}(?:\s*,\s*\d{1,3})*)\]",
    re.DOTALL | re.MULTILINE,
)
_CLAUSE_END = re.compile(r"[,;:.!?)\]—–][\"'”’)*_`]*$|^[—–]$")
LEAST_CLAUSE = 6  # words that a quotation keeps at least where it is cut at a clause
# Markup at the start of a line (list, heading, quotation, table marks) is not part of what a sentence says.
_LEADING_MARKUP = re.compile(r"(?:\s|[#>*•|]+(?=\s)|[-+](?=\s)|\d{1,2}[.)](?=\s))+")


@dataclass(frozen=True)
class Quotation:
    """A slice of a passage: ``[start, end)`` are offsets in the document's text; ``cut_before`` and ``cut_after`` say
    whether the sentence went on there, ``within_clause`` whether no clause ended where it was cut off."""

    passage: int
    start: int
    end: int
    cut_before: bool = False
    cut_after: bool = False
    within_clause: bool = False

    def raw(self, passages: Sequence[Passage]) -> str:
        """The slice exactly as the document has it, line breaks included. ``passages`` are those it was made from."""
        passage = passages[self.passage]
        return passage.text[self.start - passage.start : self.end - passage.start]

    def shown(self, passages: Sequence[Passage]) -> str:
        """The text as quoted: white space joined, an ellipsis where the sentence was trimmed."""
        body = " ".join(self.raw(passages).split())
        return f"{ELLIPSIS + ' ' if self.cut_before else ''}{body}{' ' + ELLIPSIS if self.cut_after else ''}"

    def said(self, passages: Sequence[Passage]) -> str:
        """The text as an answer says it: as quoted, without markers of its own (``unmarked``)."""
        return unmarked(self.shown(passages))


def unmarked(text: str) -> str:
    """A document's words without anything that looks like a marker of an answer: the ``[2]`` of a footnote or an index
    gets full-width brackets. They read the same, are as long, and compatibility forms (NFKC) turn them back. Code
    between fences, where nobody looks for markers, stays as it is."""
    return _LIKE_A_MARKER.sub(lambda found: f"［{n}］" if (n := found["numbers"]) else found[0], text)


def quotation(
    passages: Sequence[Passage],
    passage: int,
    start: int,
    end: int,
    max_words: int,
    keep: Mapping[int, float] | None = None,
) -> Quotation | None:
    """A quotation of at most ``max_words`` words of ``document.text[start:end]``, or None where nothing is left.

    Args:
        start, end: offsets in the document; what lies outside the passage is cut off.
        keep: places of words (from 0) worth keeping, and how much; the window that holds most is quoted, the earliest
            of equals. Without it a long sentence keeps its beginning.
    """
    body = passages[passage]
    start, end = max(start, body.start), min(end, body.start + len(body.text))
    if start >= end or max_words < 1:
        return None
    text = body.text[start - body.start : end - body.start]
    markup = _LEADING_MARKUP.match(text)
    offset = markup.end() if markup and markup.end() < len(text) else 0
    words = list(_WORDS.finditer(text, offset))
    if not words:
        return None
    room = max_words
    first = 0
    if len(words) > max_words:
        room = max(1, max_words - 2)  # an ellipsis stands as a word of its own on each side
        if keep:
            first = max(range(len(words) - room + 1), key=lambda at: (_kept(keep, at, at + room), -at))
            if first <= max_words - room:
                first = 0
    last = min(first + room, len(words))
    within = False
    if last < len(words):
        needed = max((place + 1 for place in keep or () if first <= place < last), default=0)
        clause = _clause_end([word.group() for word in words[:last]], max(needed, first + LEAST_CLAUSE))
        last, within = clause or last, not clause
    stop = words[last - 1].end()
    return Quotation(passage, start + words[first].start(), start + stop, first > 0, last < len(words), within)


def _kept(keep: Mapping[int, float], first: int, last: int) -> float:
    return sum(worth for place, worth in keep.items() if first <= place < last)


def _clause_end(words: Sequence[str], least: int) -> int:
    """How many of the words end with a clause, at least ``least`` of them; 0 where none does so far."""
    return next((n for n in range(len(words), least - 1, -1) if n and _CLAUSE_END.search(words[n - 1])), 0)


def cite(passage: Passage) -> Citation:
    """The citation of a whole passage: every sentence quoted from it stands in its text, with what is around it."""
    return Citation(
        document=passage.document,
        title=passage.title,
        source=passage.source,
        chunk=passage.chunk,
        span=(passage.start, passage.start + len(passage.text)),
        text=passage.text,
        score=passage.score,
        also=passage.also,
    )
