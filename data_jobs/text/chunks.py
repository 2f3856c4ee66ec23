"""Documents to chunks: spans small enough to embed, cut where the text's own structure allows.

A chunk is a contiguous span: ``chunk.text == document.text[chunk.start:chunk.end]``, and together a document's chunks
hold every non-blank character exactly once. Pieces are packed greedily, cut where possible in this order of preference:
sections under a heading, paragraphs and code blocks, sentences and lines, words, characters. What identifies the
document (title, readable name, heading path) goes into ``context``, which is embedded and searched but never quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log1p

import regex

from cluster.core.records import Chunk, Document
from data_jobs.text.fences import fenced_blocks, is_indented_code
from data_jobs.text.sentences import Span, sentences, trimmed

MIN_TEXT_TOKENS = 16
MAX_HEADINGS = 3
MAX_CLUSTER = 64  # Code points; what is longer is no character that anybody reads.
# Fitted on questions about the standard library (see ``prior``); cosines of good answers lie between 0.3 and 0.7.
PRIOR_BY_KIND = {"method": -0.08, "class": 0.05, "function": 0.05, "builtin": 0.05}
PRIOR_PER_REFERENCE = 0.03
PRIOR_PER_LENGTH = 0.02
PRIOR_DEPRECATED = -0.1
MAX_LOG = 4.0
_DEPRECATED = re.compile(r"\bdeprecated\b", re.IGNORECASE)
_BLANK = re.compile(r"\n[ \t]*\n")
_ATX = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$")
_UNDERLINE = re.compile(r"^([=\-~^\"'#*+.`])\1{2,}[ \t]*$")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


@dataclass(frozen=True)
class _Piece:
    """A structural piece of a document and the headings above it."""

    start: int
    end: int
    headings: tuple[str, ...]


def chunk(document: Document, count_tokens: Callable[[str], int], max_tokens: int, about: str = "") -> list[Chunk]:
    """Cut a document into chunks of at most ``max_tokens`` tokens, context included.

    Args:
        document: what to cut; a document without a non-blank character has no chunks.
        count_tokens: tokens of a text under the embedder (``Embedder.count_tokens``).
        max_tokens: budget of context and text together. A context that would take more than half of it is cut.
        about: one line about what encloses the document (its module's summary), put into the context.
    """
    chunks: list[Chunk] = []
    base = context(document, about)
    for group, headings in _packed(document.text, count_tokens, max_tokens, base):
        text = document.text[group[0] : group[1]]
        before = _fitted(_with_headings(base, headings, text), count_tokens, max_tokens // 2)
        chunks.append(
            Chunk(
                id=f"{document.id}#c{len(chunks)}",
                document=document.id,
                title=document.title,
                source=document.source,
                text=text,
                start=group[0],
                end=group[1],
                context=before,
                kind=document.kind,
                prior=prior(document),
                licence=document.licence,
                owner=document.owner,
                sensitivity=document.sensitivity,
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


def _packed(
    text: str, count_tokens: Callable[[str], int], max_tokens: int, base: str
) -> Iterator[tuple[Span, tuple[str, ...]]]:
    """Greedy packing of blocks; a chunk never spans two headings unless one of them is a tiny section."""
    context_tokens = min(count_tokens(base), max_tokens // 2)
    start = end = used = 0
    headings: tuple[str, ...] = ()
    for block in _blocks(text):
        # Headings other than the first block's are paid for where they change the context.
        budget = max(MIN_TEXT_TOKENS, max_tokens - context_tokens - _heading_tokens(block.headings, count_tokens))
        for piece in _pieces(text, block.start, block.end, count_tokens, budget):
            size = count_tokens(text[piece[0] : piece[1]])
            new_section = block.headings != headings and used > budget // 4
            if used and (used + size > budget or new_section):
                yield (start, end), headings
                used = 0
            if not used:
                start, headings = piece[0], block.headings
            end, used = piece[1], used + size
    if used:
        yield (start, end), headings


def _heading_tokens(headings: tuple[str, ...], count_tokens: Callable[[str], int]) -> int:
    return count_tokens(" > ".join(headings[-MAX_HEADINGS:])) if headings else 0


def _pieces(text: str, start: int, end: int, count_tokens: Callable[[str], int], budget: int) -> Iterator[Span]:
    """The span itself where it fits, else its sentences, else lines (tables, code), else runs of words."""
    if _fits(text, start, end, count_tokens, budget):
        yield start, end
        return
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


def _blocks(text: str) -> Iterator[_Piece]:
    """Paragraphs, code blocks and headed sections in order; fenced code stays in one block."""
    headings: list[tuple[int, str]] = []
    styles: list[str] = []
    for start, end in _paragraphs(text):
        first, _, rest = text[start:end].partition("\n")
        if is_indented_code(text, start):
            pass  # a comment in code begins like a heading
        elif match := _ATX.match(first.strip()):
            _enter(headings, len(match[1]), match[2])
        elif (
            (line := rest.partition("\n")[0]) and _UNDERLINE.match(line) and len(line.strip()) + 2 >= len(first.strip())
        ):
            if line[0] not in styles:
                styles.append(line[0])
            _enter(headings, styles.index(line[0]) + 1, first.strip())
        yield _Piece(start, end, tuple(title for _, title in headings))


def _enter(headings: list[tuple[int, str]], level: int, title: str) -> None:
    while headings and headings[-1][0] >= level:
        headings.pop()
    headings.append((level, title))


def _paragraphs(text: str) -> Iterator[Span]:
    """Spans between blank lines; a fenced code block counts as one whatever blank lines it holds."""
    at = 0
    for start, end in fenced_blocks(text):
        yield from _between_blank_lines(text, at, start)
        yield from trimmed(text, start, end)
        at = end
    yield from _between_blank_lines(text, at, len(text))


def _between_blank_lines(text: str, start: int, end: int) -> Iterator[Span]:
    at = start
    for match in _BLANK.finditer(text, start, end):
        yield from trimmed(text, at, match.start())
        at = match.end()
    yield from trimmed(text, at, end)
