"""The units of a chunk that an answer may quote: sentences of prose, rows of tables, code blocks, header fields.

Rows and code are never cut into sentences. Headings are units too, because they say what their section is about, but
they answer nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from data_jobs.text.blocks import CODE, FIELDS, HEADING, TABLE, Block, blocks, cells
from data_jobs.text.sentences import Span, sentences

SENTENCE, ROW, CODE_BLOCK, FIELD, TITLE = "sentence", "row", "code", "field", "heading"
MAX_ROW_WORDS = 180  # a longer row holds texts: those are quoted, not the row
MAX_LEAD_CHARS = 400


@dataclass(frozen=True)
class TextUnit:
    """A unit and what it cannot be understood without.

    Attributes:
        kind: SENTENCE, ROW, CODE_BLOCK, FIELD (a line of a document's header) or TITLE (a heading).
        start, end: its span in the text, white space at both ends left out.
        header: of a ROW the lines that name its columns, of a CODE_BLOCK that goes on from an earlier chunk its opening
            fence.
        lead: of a CODE_BLOCK the sentence, or else the heading, right before it.
        led_by: the kind of that; empty without one.
    """

    kind: str
    start: int
    end: int
    header: str = ""
    lead: Span = (0, 0)
    led_by: str = ""


def units(text: str, header: str = "", opens: bool = True) -> Iterator[TextUnit]:
    """The units of a text in order, not overlapping.

    Args:
        header: ``Chunk.header``: of the table or code that the text begins within.
        opens: whether the text opens its document.
    """
    before: TextUnit | None = None
    for number, block in enumerate(blocks(text, header, opens)):
        for unit in _of(text, block, "" if number else header):
            if unit.kind == CODE_BLOCK and before is not None and _leads(before):
                unit = replace(unit, lead=(before.start, before.end), led_by=before.kind)
            yield unit
            before = unit


@lru_cache(maxsize=4096)
def by_span(text: str, header: str, opens: bool) -> dict[Span, TextUnit]:
    """The same by their spans, not to be changed; for passages, which one question after the other meets."""
    return {(unit.start, unit.end): unit for unit in units(text, header, opens)}


def _leads(unit: TextUnit) -> bool:
    return unit.kind in (SENTENCE, TITLE) and unit.end - unit.start <= MAX_LEAD_CHARS


def _of(text: str, block: Block, before: str) -> Iterator[TextUnit]:
    if block.kind == CODE:
        yield TextUnit(CODE_BLOCK, block.start, block.end, "" if block.header else before)
    elif block.kind == TABLE:
        yield from _rows(text, block, block.header or before)
    elif block.kind == FIELDS:
        yield from (TextUnit(FIELD, start, end) for start, end in block.rows)
    elif block.kind == HEADING:
        start = text.index(block.title, block.start)
        yield TextUnit(TITLE, start, start + len(block.title))
    else:
        yield from (TextUnit(SENTENCE, *span) for span in sentences(text, block.start, block.end))


def _rows(text: str, block: Block, header: str) -> Iterator[TextUnit]:
    if block.header and "\n" not in block.header and len(cells(block.header)) == 2:
        # Two columns without a rule below the first row: names and values as often as column names and rows.
        yield TextUnit(ROW, block.start, block.start + len(block.header))
    for start, end in block.rows:
        if len(text[start:end].split()) <= MAX_ROW_WORDS:
            yield TextUnit(ROW, start, end, header)
        else:
            yield from (TextUnit(SENTENCE, *span) for span in sentences(text, start, end))
