"""What a text is made of: headings, prose, tables, code and header fields, each a span of whole lines.

Plain text, Markdown and reStructuredText alike, told by their layout alone. A table is a run of rows ``| a | b |`` or
``a | b`` (with or without a ``|---|`` line below the column names), a grid or a simple table of reStructuredText, or a
record that is the whole text (``name: value`` a line); code is what stands between fences of any length, or indented
and not prose; header fields are the ``Title: ...`` lines that a document opens with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_jobs.text.sentences import Span, trimmed

UNMARKED = " "
PROSE, HEADING, TABLE, CODE, FIELDS = "prose", "heading", "table", "code", "fields"
LOOK_BACK = 100  # lines in which what an indented paragraph belongs to is looked for
MAX_RULE_CHARS = 5_000  # a longer line is no rule below column names
MIN_FIELDS = 3  # so many lines make header fields of a document where none of them is a title
_FENCE = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})(.*)$")
_DIRECTIVE = re.compile(r"[ \t]*\.\.[ \t]+(?:code-block|code|sourcecode|prompt|parsed-literal)::[ \t]*([\w+#.-]*)")
_ATX = re.compile(r"[ ]{0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"([=\-~^\"'#*+.`:_<>])\1{2,}[ \t]*$")
_SEPARATOR = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_GRID = re.compile(r"[ \t]*\+(?:[-=]{2,}\+)+[ \t]*$")
_SIMPLE = re.compile(r"[ \t]*={2,}(?:[ \t]+={2,})+[ \t]*$")
_PIPE = re.compile(r"(?<!\\)\|")
_FIELD = re.compile(r"([^\W\d_][\w-]*(?: [\w-]+){0,2}):(?:[ \t]+\S.*)?$")
_IN_COLUMNS = re.compile(r"\S {4,}(?=\S)")
_COLUMN = re.compile(r"([^\s:|#>*-][^:\n|]{0,80}):[ \t]+\S")
_TITLE_FIELDS = frozenset(("title", "subject", "titel", "betreff", "titre", "objet", "título", "asunto"))
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+")
_PROSE_END = re.compile(r"[.!?:;,。！？][\"')\]”’*_]*$")


@dataclass(frozen=True)
class Block:
    """A structural piece of a text.

    Attributes:
        kind: PROSE, HEADING, TABLE, CODE or FIELDS.
        start, end: its span, white space at both ends left out.
        header: of a table the lines that name its columns (``|---|`` included), of fenced code the opening fence; empty
            where there is none, or where it stands before the text (``blocks`` was told it).
        rows: spans of a table's rows below the header, or of the header fields.
        level, title: of a heading; 0 where no number of ``#`` says it.
        mark: what tells the level of such a heading: the character of its underline (twice with one above it as well),
            or UNMARKED for a line of plain text above an indented section.
    """

    kind: str
    start: int
    end: int
    header: str = ""
    rows: tuple[Span, ...] = ()
    level: int = 0
    title: str = ""
    mark: str = ""


def blocks(text: str, before: str = "", opens: bool = True) -> Iterator[Block]:
    """The blocks of a text in order; together they hold every character but white space.

    Args:
        before: the header of the table or code that the text begins within (``Chunk.header``), else empty.
        opens: whether the text opens its document: only there are header fields looked for.
    """
    return _Scanner(text, before, opens).run()


def is_fence(line: str) -> bool:
    """Whether a line opens fenced code."""
    return _FENCE.match(line) is not None


def directive_language(line: str) -> str | None:
    """The language that a ``.. code-block::`` of reStructuredText names, maybe none (empty); None for other lines."""
    match = _DIRECTIVE.match(line)
    return match[1] if match else None


def is_separator(line: str) -> bool:
    """Whether a line is the ``|---|---|`` below a table's column names."""
    return "-" in line and "|" in line and len(line) <= MAX_RULE_CHARS and _SEPARATOR.match(line) is not None


def cells(row: str) -> list[str]:
    """The cells of a row ``| a | b |`` or ``a | b``; a pipe after a backslash is text."""
    parts = [part.strip() for part in _PIPE.split(row.strip())]
    return parts[bool(parts and not parts[0]) : -1 if len(parts) > 1 and not parts[-1] else None]


def column_names(header: str) -> str:
    """The words of a table's header, a line each: without its rules. Empty for what opens code: it names no columns."""
    lines = header.split("\n")
    if is_fence(lines[0]) or directive_language(lines[0]) is not None:
        return ""
    return "\n".join(line for line in lines if any(c.isalnum() for c in line))


def record_columns(text: str) -> list[str]:
    """Column names of a text that is one record (``name: value`` a line), empty where it is anything else."""
    lines = text.strip().split("\n")
    if len(lines) < 2 or not _COLUMN.match(lines[0]) or not all(map(str.strip, lines)):
        return []
    names = [match[1].strip().lower() for line in lines if (match := _COLUMN.match(line))]
    return names if 2 * len(names) > len(lines) and len(set(names)) == len(names) > 1 else []


class _Scanner:
    """Reads a text line by line; each ``_take_*`` looks for its kind of block at a line and gives the line after it."""

    def __init__(self, text: str, before: str, opens: bool) -> None:
        self.text, self.before, self.opens = text, before, opens
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def run(self) -> Iterator[Block]:
        at = self._first()
        if isinstance(at, tuple):
            block, at = at
            if block.start < block.end:
                yield block
        prose = at  # where the paragraph that is being read began
        while at < len(self.lines):
            if not self.lines[at].strip():
                yield from self._prose(prose, at)
                at = prose = at + 1
                continue
            taken = self._code(at) or self._table(at) or self._heading(at, prose) or self._indented(at, prose)
            if taken is None:
                at += 1
                continue
            block, stop = taken
            yield from self._prose(prose, at)
            yield block
            at = prose = stop
        yield from self._prose(prose, at)

    def _first(self) -> tuple[Block, int] | int:
        """What the text begins within, or the header fields it opens with."""
        if self.before:
            head = self.before.split("\n")[0]
            if match := _FENCE.match(head):
                return self._fenced(0, 0, match[1], "")
            if directive_language(head) is not None:
                return Block(CODE, *self._span(0, stop := self._deeper(0, 1))), stop
            stop = self._row_end(0)
            return self._made_table(0, 0, stop, "") if stop else 0
        if not self.opens:
            return 0
        if record_columns(self.text):
            span = self._span(0, len(self.lines))
            return Block(TABLE, *span, rows=(span,)), len(self.lines)
        return self._fields() or 0

    def _span(self, first: int, stop: int) -> Span:
        found = trimmed(self.text, self.starts[first], min(self.starts[stop], len(self.text) + 1) - 1)
        return next(found, (self.starts[first], self.starts[first]))

    def _prose(self, first: int, stop: int) -> Iterator[Block]:
        start, end = self._span(first, stop) if first < stop else (0, 0)
        if start < end:
            yield Block(PROSE, start, end)

    # -- code ----------------------------------------------------------------------------------------------------------
    def _code(self, at: int) -> tuple[Block, int] | None:
        if directive_language(line := self.lines[at]) is not None:
            stop = self._deeper(at + 1, _depth(line) + 1)
            return Block(CODE, *self._span(at, stop), header=line.strip()), stop
        match = _FENCE.match(self.lines[at])
        if match is None or self._is_rule(at):
            return None
        return self._fenced(at, at + 1, match[1], self.lines[at].strip())

    def _is_rule(self, at: int) -> bool:
        """Whether a line of tildes or backticks is part of a heading: below its text, or above and below it."""
        line = self.lines[at].strip()
        if not _UNDERLINE.match(line):
            return False
        above = self.lines[at - 1].strip() if at else ""
        paragraph = at < 2 or not self.lines[at - 2].strip() or self.lines[at - 2].strip() == line
        if above and paragraph and not above.endswith(":") and len(line) + 2 >= len(above) and len(line) > 3:
            return True
        return at + 2 < len(self.lines) and self.lines[at + 2].strip() == line and 3 < len(line) >= len(
            self.lines[at + 1].strip()
        )  # fmt: skip

    def _fenced(self, first: int, inside: int, mark: str, header: str) -> tuple[Block, int]:
        """Fenced code up to its closing fence, else to the end of the text (as CommonMark has it)."""
        closing = re.compile(rf"[ \t]*{re.escape(mark[0])}{{{len(mark)},}}[ \t]*$")
        stop = next((n for n in range(inside, len(self.lines)) if closing.match(self.lines[n])), len(self.lines) - 1)
        return Block(CODE, *self._span(first, stop + 1), header=header), stop + 1

    def _indented(self, at: int, prose: int) -> tuple[Block, int] | None:
        """Indented code: after a blank line, deeper than what stands above it and no list, and not written as prose."""
        if at != prose or not (depth := _depth(self.lines[at])) or _LIST_ITEM.match(self.lines[at]):
            return None
        nearby = self.lines[max(0, at - LOOK_BACK) : at]
        above = next((line for line in reversed(nearby) if line.strip() and _depth(line) < depth), None)
        if above is None:  # the whole text is indented
            return None
        item = _LIST_ITEM.match(above)
        stop = next((n for n in range(at, len(self.lines)) if not self.lines[n].strip()), len(self.lines))
        if depth < (item.end() + 4 if item else _depth(above) + 4) or is_prose(self.lines[at:stop]):
            return None
        last = self._deeper(at, depth)
        return Block(CODE, *self._span(at, last)), last

    def _deeper(self, at: int, depth: int) -> int:
        """The line after the lines, blank ones between them, that are indented at least so deep."""
        last = at
        for number in range(at, len(self.lines)):
            if self.lines[number].strip():
                # The first line of a chunk has lost its indentation.
                if _depth(self.lines[number]) < depth and (number or not self.before):
                    break
                last = number + 1
        return last

    # -- tables --------------------------------------------------------------------------------------------------------
    def _table(self, at: int) -> tuple[Block, int] | None:
        line = self.lines[at]
        if _GRID.match(line) or _SIMPLE.match(line):
            return self._ruled(at)
        following = self.lines[at + 1] if at + 1 < len(self.lines) else ""
        if not _PIPE.search(line):
            return None
        stop = self._row_end(at)
        if is_separator(following) or (line.strip().startswith("|") and is_separator(line)):
            heads = 1 if is_separator(line) else 2
            return self._made_table(at, at + heads, stop, self.text[slice(*self._span(at, at + heads))])
        # ``a | b |`` may have an empty last cell, and ``| a | b`` an empty first one: then as many pipes tell, unless a
        # line has them on both sides.
        framed = any(one.strip()[:1] == one.strip()[-1:] == "|" for one in (line, following))
        pipes = len(_PIPE.findall(line.strip())) == len(_PIPE.findall(following.strip()))
        alike = stop - at > 1 and (
            len(cells(line)) == len(cells(following)) > 1 or (pipes and not framed and len(cells(line)) > 1)
        )
        return self._made_table(at, at + 1, stop, self.text[slice(*self._span(at, at + 1))]) if alike else None

    def _row_end(self, at: int) -> int:
        """The line after the rows that begin at a line."""
        ruled = self.before.lstrip().startswith(("+", "=")) if at == 0 else False
        stop = at
        while stop < len(self.lines) and self.lines[stop].strip():
            line = self.lines[stop]
            if not (ruled or _GRID.match(line) or _is_row(line)):
                break
            stop += 1
        return stop

    def _made_table(self, first: int, body: int, stop: int, header: str) -> tuple[Block, int]:
        shape = (header or self.before).lstrip()[:1]
        rows = self._rows(body, stop, shape if shape in "+=" else "")
        return Block(TABLE, *self._span(first, stop), header=header, rows=tuple(rows)), stop

    def _rows(self, first: int, stop: int, shape: str) -> Iterator[Span]:
        """Spans of the rows: a line each, but to the next border in a grid, and with its continuation in a simple table
        (a line whose first column is empty)."""
        start = first
        for at in range(first, stop):
            line, following = self.lines[at], self.lines[at + 1] if at + 1 < stop else ""
            if shape == "+":
                ends = bool(_GRID.match(line)) or at + 1 == stop
            elif shape == "=":
                ends = at + 1 == stop or not (_SIMPLE.match(following) or following.startswith((" ", "\t")))
            else:
                ends = True
            if ends:
                yield self._span(start, at + 1)
                start = at + 1

    def _ruled(self, at: int) -> tuple[Block, int] | None:
        """A grid or simple table of reStructuredText: its first row names the columns where a line of = follows it."""
        border = _GRID if _GRID.match(self.lines[at]) else _SIMPLE
        stop = at
        while stop < len(self.lines) and self.lines[stop].strip():
            stop += 1
        borders = [n for n in range(at, stop) if border.match(self.lines[n])]
        if len(borders) < 2:
            return None
        stop = borders[-1] + 1
        if border is _GRID:
            body = next((n + 1 for n in borders[1:-1] if "=" in self.lines[n]), at + 1)
        else:
            body = borders[1] + 1 if len(borders) > 2 else at + 1
        return self._made_table(at, body, stop, self.text[slice(*self._span(at, body))])

    # -- headings and fields -------------------------------------------------------------------------------------------
    def _heading(self, at: int, prose: int) -> tuple[Block, int] | None:
        line = self.lines[at]
        if match := _ATX.match(line[:1000]):
            return Block(HEADING, *self._span(at, at + 1), level=len(match[1]), title=match[2]), at + 1
        below = self.lines[at + 1].strip() if at + 1 < len(self.lines) else ""
        if at == prose and below and _UNDERLINE.match(below) and len(below) + 2 >= len(line.strip()):
            if any(c.isalnum() for c in line) and line.strip()[0] not in "|>":
                return Block(HEADING, *self._span(at, at + 2), title=line.strip(), mark=below[0]), at + 2
            third = self.lines[at + 2].strip() if at + 2 < len(self.lines) else ""
            if third == line.strip():  # a line above the heading as well
                return Block(HEADING, *self._span(at, at + 3), title=below, mark=third[0] * 2), at + 3
        third = self.lines[at + 2].strip() if at + 2 < len(self.lines) else ""
        if at == prose and _UNDERLINE.match(line) and third == line.strip() and len(below) <= len(third) and below:
            return Block(HEADING, *self._span(at, at + 3), title=below, mark=third[0] * 2), at + 3
        if at == prose and not below and self._heads_section(at):
            return Block(HEADING, *self._span(at, at + 1), title=line.strip(), mark=UNMARKED), at + 1
        return None

    def _heads_section(self, at: int) -> bool:
        """Whether a short line at the left is the heading of the indented prose below it, as in an RFC."""
        line = self.lines[at]
        if not line[:1].strip() or len(line) > 80 or _PROSE_END.search(line) or _LIST_ITEM.match(line + " "):
            return False
        first = next((n for n in range(at + 2, min(at + 5, len(self.lines))) if self.lines[n].strip()), 0)
        stop = next((n for n in range(first, len(self.lines)) if not self.lines[n].strip()), len(self.lines))
        if not first or self.lines[first][:1] not in " \t" or not any(c.isalpha() for c in line):
            return False
        return _depth(self.lines[first]) >= 2 and is_prose(self.lines[first:stop])

    def _fields(self) -> tuple[Block, int] | None:
        first = next((n for n, line in enumerate(self.lines) if line.strip()), 0)
        if self.lines[first][:1].strip() and len(_IN_COLUMNS.findall(self.lines[first])) == 1:
            return self._memo_head(first)
        at, names, starts = first, [], []
        while at < len(self.lines) and self.lines[at].strip():
            if match := _FIELD.match(self.lines[at]):
                names.append(match[1].lower())
                starts.append(at)
            elif not (names and self.lines[at][:1] in " \t"):
                return None
            at += 1
        if len(names) < MIN_FIELDS and not (len(names) > 1 and _TITLE_FIELDS & set(names)):
            return None
        if len(set(names)) < len(names):
            return None
        rows = tuple(self._span(a, b) for a, b in zip(starts, [*starts[1:], at], strict=True))
        return Block(FIELDS, *self._span(first, at), rows=rows), at

    def _memo_head(self, first: int) -> tuple[Block, int] | None:
        """The head of an RFC or memo: lines in two columns, such as series and number left, authors and date right."""
        stop = next((n for n in range(first, len(self.lines)) if not self.lines[n].strip()), len(self.lines))
        in_columns = sum(bool(_IN_COLUMNS.search(line)) for line in self.lines[first:stop])
        if stop - first < 2 or in_columns < 2 or 2 * in_columns < stop - first:
            return None
        rows = tuple(self._span(n, n + 1) for n in range(first, stop))
        return Block(FIELDS, *self._span(first, stop), rows=rows), stop


def title_field(text: str) -> str:
    """The title in the header fields that a text opens with; empty where there is none."""
    block = _Scanner(text[:20_000], "", True)._fields()
    for start, end in block[0].rows if block else ():
        name, _, value = text[start:end].partition(":")
        if name.lower() in _TITLE_FIELDS:
            return " ".join(value.split())
    return ""


def is_prose(lines: Sequence[str]) -> bool:
    """Whether indented lines are written as prose (a quotation, a note) rather than code."""
    words = " ".join(lines).split()
    plain = sum(word.strip("\"'“”‘’().,;:!?*_`").replace("-", "").isalpha() for word in words)
    last = next((line for line in reversed(lines) if line.strip()), "").strip()
    first = next((line for line in lines if line.strip()), "").strip()
    if not words or plain < 0.7 * len(words) or first[:1] in "$>#%{<":
        return False
    return len(words) > 12 or (not first[0].islower() and bool(_PROSE_END.search(last)) and len(words) > 2)


def _is_row(line: str) -> bool:
    body = line.strip()
    return len(_PIPE.findall(body)) > (body.startswith("|") and not body.endswith("|")) or is_separator(line)


def _depth(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip(" "))
