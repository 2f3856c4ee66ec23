"""Documents to chunks: spans small enough to embed, cut where the text's own structure allows.

A chunk is a contiguous span: ``chunk.text == document.text[chunk.start:chunk.end]``, and together a document's chunks
hold every non-blank character exactly once. Blocks (``text/blocks``) are packed greedily and cut where too long:
tables between rows, code at blank lines and lines, prose at sentences, lines, words, characters. What identifies the
document (title, readable name, heading path) goes into ``context``, which is embedded and searched but never quoted; so
do the column names of a table that a chunk begins within (``header`` has the lines themselves, to quote them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log1p

import regex

from cluster.core.records import MAX_ALSO, Chunk, Document
from data_jobs.text.blocks import CODE, HEADING, PROSE, TABLE, Block, blocks, column_names
from data_jobs.text.sentences import Span, sentences, trimmed

MIN_TEXT_TOKENS = 16
MAX_HEADINGS = 3
MAX_CLUSTER = 64  # Code points; what is longer is no character that anybody reads.
MAX_LEAD_CHARS = 300  # a paragraph that announces a table or code is at most so long
ROW_BUDGETS = 4  # a row of up to so many budgets stays whole, though the embedder does not read to its end
# Fitted on questions about the standard library (see ``prior``); cosines of good answers lie between 0.3 and 0.7.
PRIOR_BY_KIND = {"method": -0.08, "class": 0.05, "function": 0.05, "builtin": 0.05}
PRIOR_PER_REFERENCE = 0.03
PRIOR_PER_LENGTH = 0.02
PRIOR_DEPRECATED = -0.1
MAX_LOG = 4.0
_DEPRECATED = re.compile(r"\bdeprecated\b", re.IGNORECASE)
_BLANK = re.compile(r"\n[ \t]*\n")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


@dataclass(frozen=True)
class _Piece:
    """A span that stays in one chunk, and the header it needs where a chunk begins with it."""

    start: int
    end: int
    header: str = ""


@dataclass(frozen=True)
class _Group:
    """A chunk to be: its span, the headings above it and the header of what it begins within."""

    start: int
    end: int
    headings: tuple[str, ...]
    header: str


def chunk(document: Document, count_tokens: Callable[[str], int], max_tokens: int, about: str = "") -> list[Chunk]:
    """Cut a document into chunks of at most ``max_tokens`` tokens, context included.

    Args:
        document: what to cut; a document without a non-blank character has no chunks.
        count_tokens: tokens of a text under the embedder (``Embedder.count_tokens``).
        max_tokens: budget of context and text together. A context that would take more than half of it is cut. Only a
            chunk of one long row, and what column names take beyond that half, exceed it.
        about: one line about what encloses the document (its module's summary), put into the context.
    """
    chunks: list[Chunk] = []
    base = context(document, about)
    for group in _packed(document.text, count_tokens, max_tokens, base):
        text = document.text[group.start : group.end]
        before = _fitted(_with_headings(base, group.headings, text), count_tokens, max_tokens // 2)
        chunks.append(
            Chunk(
                id=f"{document.id}#c{len(chunks)}",
                document=document.id,
                title=document.title,
                source=document.source,
                text=text,
                start=group.start,
                end=group.end,
                context="\n".join(filter(None, (before, column_names(group.header)))),
                kind=document.kind,
                prior=prior(document),
                licence=document.licence,
                owner=document.owner,
                sensitivity=document.sensitivity,
                header=group.header,
                also=document.copies[:MAX_ALSO],
                access=document.access,
            )
        )
    return chunks


def context(document: Document, about: str = "") -> str:
    """What is put before a chunk's text: readable name, title, and what the document belongs to."""
    if document.kind in ("file", "record"):
        return document.title
    lines = [document.title or document.id, readable_name(document.id)]
    if about:
        lines.append(about)
    return "\n".join(lines)


def embedded_text(piece: Chunk) -> str:
    """What is embedded of a chunk. The text comes first: it should weigh most, and models cut what is too long."""
    return f"{piece.text}\n{piece.context}" if piece.context else piece.text


def prior(document: Document) -> float:
    """Static rank of a document in units of cosine, 0 for files and records.

    Of the many entries of an API reference, people ask for few: rather for what other code uses, for what is explained
    at length, and rather for functions and classes than for single methods or what is deprecated.
    """
    if document.kind in ("file", "record"):
        return 0.0
    value = PRIOR_BY_KIND.get(document.kind, 0.0)
    value += PRIOR_PER_REFERENCE * min(log1p(document.references), MAX_LOG)
    value += PRIOR_PER_LENGTH * min(log1p(len(document.text)), 2 * MAX_LOG)
    return value + (PRIOR_DEPRECATED if _DEPRECATED.search(document.text) else 0.0)


def readable_name(name: str) -> str:
    """A qualified name in words: ``os.OrderedDict.move_to_end`` -> ``os ordered dict move to end``."""
    return " ".join(word.lower() for word in _WORDS.findall(name))


def _with_headings(base: str, headings: tuple[str, ...], text: str) -> str:
    path = " > ".join(h for h in headings[-MAX_HEADINGS:] if h not in base and not text.lstrip("# ").startswith(h))
    return f"{base}\n{path}" if path and base else path or base


def _fitted(text: str, count_tokens: Callable[[str], int], limit: int) -> str:
    """``text`` cut at a word so that it has at most about ``limit`` tokens."""
    if len(text) <= limit or count_tokens(text) <= limit:  # no token is shorter than a character
        return text
    words = text[: limit * 8].split()
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens(" ".join(words[:middle])) <= limit else (low, middle - 1)
    return " ".join(words[:low])


def _packed(text: str, count_tokens: Callable[[str], int], max_tokens: int, base: str) -> Iterator[_Group]:
    """Greedy packing of blocks; a chunk never spans two headings unless one of them is a tiny section."""
    context_tokens = min(count_tokens(base), max_tokens // 2)
    start = end = used = 0
    headings: tuple[str, ...] = ()
    header = ""
    for lead, block, above in _led(text):
        # Headings other than the first block's are paid for where they change the context.
        budget = max(MIN_TEXT_TOKENS, max_tokens - context_tokens - _heading_tokens(above, count_tokens))
        for piece in _pieces(text, lead, block, count_tokens, budget):
            size = count_tokens(text[piece.start : piece.end])
            new_section = above != headings and used > budget // 4
            if used and (used + size > budget or new_section):
                yield _Group(start, end, headings, header)
                used = 0
            if not used:
                start, headings, header = piece.start, above, piece.header
                used = count_tokens(column_names(header))
            end, used = piece.end, used + size
    if used:
        yield _Group(start, end, headings, header)


def _heading_tokens(headings: tuple[str, ...], count_tokens: Callable[[str], int]) -> int:
    return count_tokens(" > ".join(headings[-MAX_HEADINGS:])) if headings else 0


def _led(text: str) -> Iterator[tuple[Span | None, Block, tuple[str, ...]]]:
    """Each block but headings, with the headings above it and the span of what leads to it: headings that stand right
    before it, and before a table or code the paragraph that announces it."""
    headings: list[tuple[int, str]] = []
    styles: list[str] = []
    lead: Span | None = None
    waiting: tuple[Span | None, Block] | None = None
    for block in blocks(text):
        if waiting is not None and block.kind not in (TABLE, CODE):
            yield *waiting, tuple(title for _, title in headings)
            waiting = lead = None
        if block.kind == HEADING:
            if block.mark and block.mark not in styles:
                styles.append(block.mark)
            _enter(headings, block.level or styles.index(block.mark) + 1, block.title)
            lead = (lead[0] if lead else block.start, block.end)
            continue
        if waiting is not None:
            first, announced = waiting
            lead, waiting = (first[0] if first else announced.start, announced.end), None
        if block.kind == PROSE and block.end - block.start <= MAX_LEAD_CHARS and text[block.end - 1] in ":：":
            waiting = lead, block
        else:
            yield lead, block, tuple(title for _, title in headings)
            lead = None
    above = tuple(title for _, title in headings)
    if waiting is not None:
        yield *waiting, above
    elif lead is not None:
        yield None, Block(PROSE, *lead), above


def _enter(headings: list[tuple[int, str]], level: int, title: str) -> None:
    while headings and headings[-1][0] >= level:
        headings.pop()
    headings.append((level, title))


def _pieces(
    text: str, lead: Span | None, block: Block, count_tokens: Callable[[str], int], budget: int
) -> Iterator[_Piece]:
    """What must not be cut of a block: the whole with what leads to it where that fits, else rows of a table,
    paragraphs or lines of code, sentences of prose; what is too long even so is cut by lines and words."""
    start = lead[0] if lead else block.start
    if _fits(text, start, block.end, count_tokens, budget):
        yield _Piece(start, block.end)
        return
    inside = _inside(text, block, count_tokens, budget)
    if lead is not None:
        first = next(inside)
        if _fits(text, start, first.end, count_tokens, budget):
            yield _Piece(start, first.end)
        else:
            yield from (_Piece(*span) for span in _prose(text, *lead, count_tokens, budget))
            yield first
    yield from inside


def _inside(text: str, block: Block, count_tokens: Callable[[str], int], budget: int) -> Iterator[_Piece]:
    if block.kind == TABLE:
        yield from _table(text, block, count_tokens, budget)
    elif block.kind == CODE:
        for number, span in enumerate(_code(text, block, count_tokens, budget)):
            yield _Piece(*span, block.header if number else "")
    elif _fits(text, block.start, block.end, count_tokens, budget):
        yield _Piece(block.start, block.end)
    else:
        yield from (_Piece(*span) for span in _prose(text, block.start, block.end, count_tokens, budget))


def _table(text: str, block: Block, count_tokens: Callable[[str], int], budget: int) -> Iterator[_Piece]:
    """The rows of a table, the first together with the column names; only a row that is a text by itself is cut."""
    start = block.start
    for at, (first, end) in enumerate(block.rows or ((block.end, block.end),)):
        first, end = min(first, end), end if at + 1 < len(block.rows) else block.end
        if _fits(text, start if not at else first, end, count_tokens, ROW_BUDGETS * budget):
            yield _Piece(first if at else start, end, block.header if at else "")
        else:
            spans = _prose(text, first if at else start, end, count_tokens, budget)
            yield from (_Piece(*span, block.header if at or n else "") for n, span in enumerate(spans))


def _code(text: str, block: Block, count_tokens: Callable[[str], int], budget: int) -> Iterator[Span]:
    """Code cut at its blank lines, else at its lines."""
    for start, end in _between_blank_lines(text, block.start, block.end):
        if _fits(text, start, end, count_tokens, budget):
            yield start, end
            continue
        for line in _lines(text, start, end):
            if _fits(text, *line, count_tokens, budget):
                yield line
            else:
                yield from _runs(text, *line, count_tokens, budget)


def _prose(text: str, start: int, end: int, count_tokens: Callable[[str], int], budget: int) -> Iterator[Span]:
    """Sentences, else lines, else runs of words."""
    for sentence in sentences(text, start, end):
        if _fits(text, *sentence, count_tokens, budget):
            yield sentence
            continue
        for line in _lines(text, *sentence):
            if _fits(text, *line, count_tokens, budget):
                yield line
            else:
                yield from _runs(text, *line, count_tokens, budget)


def _lines(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop + 1
        yield from trimmed(text, start, stop)
        start = stop


def _fits(text: str, start: int, end: int, count_tokens: Callable[[str], int], budget: int) -> bool:
    # A span of 32 characters per allowed token is not worth tokenising: only white space or one endless word fits.
    return end - start <= budget or (end - start <= 32 * budget and count_tokens(text[start:end]) <= budget)


def _runs(text: str, start: int, end: int, count_tokens: Callable[[str], int], budget: int) -> Iterator[Span]:
    """Cut a span without structure: the longest prefix that fits, at a word's end where one is near."""
    while start < end:
        stop = min(end, start + 8 * budget)
        while stop - start > 1 and not _fits(text, start, stop, count_tokens, budget):
            stop = start + (stop - start) // 2
        if stop < end:
            space = max(text.rfind(" ", start + (stop - start) // 2, stop), text.rfind("\n", start, stop))
            stop = space if space > start else _between_characters(text, start, stop)
        yield from trimmed(text, start, stop)
        start = stop


def _between_characters(text: str, start: int, stop: int) -> int:
    """The last place up to ``stop`` (the first after it where there is none) between two characters as people see them:
    extended grapheme clusters (Unicode Standard Annex 29). ``start`` is such a place."""
    at = start
    for cluster in regex.finditer(r"\X", text, pos=start, endpos=stop + MAX_CLUSTER):
        if cluster.end() > stop:
            return at if at > start else cluster.end()
        at = cluster.end()
    return at


def _between_blank_lines(text: str, start: int, end: int) -> Iterator[Span]:
    at = start
    for match in _BLANK.finditer(text, start, end):
        yield from trimmed(text, at, match.start())
        at = match.end()
    yield from trimmed(text, at, end)
