"""The walk through a Word document's XML: what is shown goes in, once and in reading order (ECMA-376 part 1).

Elements are known by their local names, so that both forms of the standard (transitional and strict) read alike. In:
inserted and moved text, content controls, hyperlinks, smart tags, results of fields, equations, ruby, symbols, text
boxes, diagrams and charts behind the paragraph they hang on, notes behind the paragraph or table that refers to them.
Out, and counted: deleted text, hidden text, pictures, embedded objects. Out: field codes, the numbers of lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from data_jobs.extractors.docx_math import equation
from data_jobs.extractors.docx_symbols import symbol_of, without_private_use
from data_jobs.extractors.docx_xml import (
    children,
    choice,
    contents,
    drawn_words,
    first_column,
    form_value,
    local,
    value,
)
from data_jobs.extractors.protocol import Budget, Skipped, UnreadableFileError

MAX_DEPTH = 100  # of tables, boxes and controls inside each other
# Word's own names, and those of publishers' templates (HeadA, HeadB, ChapterTitle).
_HEADING = re.compile(r"head(?:ing)?[ _-]?([1-9a-e])\Z", re.I)
_TITLES = re.compile(r"(?:chapter|document)?[ _-]?title\Z", re.I)
_CODE = re.compile(
    r"(?:source[ _-]?)?code(?:[ _-]?(?:block|wide|single|[a-z]))?\Z|html preformatted\Z|plain text\Z", re.I
)
_INLINE = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_DELETED = frozenset(("del", "moveFrom"))
_BOXES = frozenset(("drawing", "pict", "object", "AlternateContent"))
_CODES = frozenset(("instrText", "delText", "delInstrText", "rPr", "pPr", "tblPr", "tcPr", "trPr", "sdtPr", "rubyPr"))


class Walk:
    """One walk through a part of a document.

    Args:
        names: of styles by id; hidden: ids of styles that hide text; notes: ``footnote:ID`` and ``endnote:ID``.
        embedded: the text of a built-in file by its relation; drawn: the root of a diagram's or chart's part.
    """

    def __init__(
        self, names: Mapping[str, str], hidden: frozenset[str], notes: dict[str, Any], budget: Budget,
        skipped: Skipped, embedded: Callable[[str], str], drawn: Callable[[str], Any],
    ) -> None:  # fmt: skip
        self.names, self.hidden, self.notes, self.budget, self.skipped = names, hidden, notes, budget, skipped
        self.embedded, self.drawn = embedded, drawn
        self.fields: list[bool] = []  # open fields, innermost last: whether their result has begun
        self.waiting: list[str] = []  # boxes and notes that are shown behind the block they hang on
        self.depth = 0
        self.veiled = False  # whether the paragraph's style hides its text
        self._endless: dict[Any, frozenset[Any]] = {}  # by part: marks that begin a field which nothing ends

    # -- blocks --------------------------------------------------------------------------------------------------------
    def blocks(self, parent: Any) -> Iterator[str]:
        """The pieces of a body, a cell, a box or a note: headings, paragraphs, code, tables, in order."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableFileError("bomb", f"over {MAX_DEPTH} boxes, controls and tables inside each other")
        code: list[str] = []
        for block in self._flat(parent):
            kind, text = local(block), ""
            if kind == "p":
                style, text = self._style(block), self._shown(block)
                if _CODE.match(style):
                    code.append(text)
                    self.budget.take_text(text)
                    continue
                text = self._paragraph(block, style, text)
            elif kind == "tbl":
                text = self._table(block)
            elif kind == "altChunk":
                text = self.embedded(value(block, "id"))
            elif kind in ("oMathPara", "oMath"):
                text = equation(block)
            if code:  # a line of code is a paragraph of its own in Word
                yield _fenced(code)
                code = []
            if text.strip():
                self.budget.take_text(text)
                yield text
            yield from self._behind()
        if code:
            yield _fenced(code)
        yield from self._behind()
        self.depth -= 1

    def _flat(self, parent: Any, depth: int = 0) -> Iterator[Any]:
        """Blocks in order, those in content controls, custom XML and tracked changes included."""
        if depth > MAX_DEPTH:
            raise UnreadableFileError("bomb", f"over {MAX_DEPTH} controls inside each other")
        for child in parent:
            if not isinstance(child.tag, str):
                continue
            kind = local(child)
            if kind in ("p", "tbl", "altChunk", "oMathPara", "oMath"):
                yield child
            elif kind in _DELETED:
                self.skipped["deletions"] += 1
            elif kind == "AlternateContent":
                yield from self._flat(choice(child), depth + 1)
            elif kind not in _CODES:
                yield from self._flat(child, depth + 1)

    def _behind(self) -> Iterator[str]:
        waiting, self.waiting = self.waiting, []
        yield from (text for text in waiting if text.strip())

    def _style(self, paragraph: Any) -> str:
        found = [s for p in children(paragraph, "pPr") for s in children(p, "pStyle")]
        return self.names.get(value(found[0]), "") if found else ""

    def _shown(self, paragraph: Any) -> str:
        """The text of a paragraph, whose style may hide all runs that do not say otherwise."""
        around = self.veiled
        self.veiled = any(value(s) in self.hidden for p in children(paragraph, "pPr") for s in children(p, "pStyle"))
        text = self.inline(paragraph)
        self.veiled = around
        return text

    def _paragraph(self, paragraph: Any, style: str, text: str) -> str:
        if not text.strip():
            return ""
        if _TITLES.match(style):
            return f"# {' '.join(text.split())}"
        if heading := _HEADING.match(style):
            level = int(heading[1]) if heading[1].isdigit() else "abcde".index(heading[1].lower()) + 2
            return f"{'#' * min(6, level)} {' '.join(text.split())}"
        listed = any(children(p, "numPr") for p in children(paragraph, "pPr"))
        return f"- {text}" if listed else text

    # -- tables --------------------------------------------------------------------------------------------------------
    def _table(self, table: Any) -> str:
        """A row a line, ``a | b | c``; a table of one column holds the page together and is read as its content."""
        rows = [self._cells(row) for row in self._inside(table, "tr") if not self._is_deleted(row)]
        if rows and max(map(len, rows)) == 1:
            return "\n\n".join(text for (cell,) in (row for row in rows if row) for text in self.blocks(cell))
        lines, above, waiting = [], dict[int, str](), []
        for row in rows:
            self.budget.check_time()
            texts, column = [], first_column(row)
            for cell in row:
                properties = next(iter(children(cell, "tcPr")), None)
                merged = next(iter(children(properties, "vMerge")), None)
                if merged is not None and value(merged) != "restart":
                    text = above.get(column, "")  # a cell that goes on: each row says what it is of
                else:
                    text = " ".join(_row_of(piece) for piece in self.blocks(cell))
                    waiting += self.waiting
                    self.waiting = []
                above[column] = text
                texts.append(text)
                span = value(next(iter(children(properties, "gridSpan")), None))
                wide = int(span) if span.isdigit() and len(span) < 4 else 1
                texts += [""] * (wide - 1)  # so that what follows stands below its heading
                column += wide
            lines.append(" | ".join(texts).rstrip())
        self.waiting = waiting
        return "\n".join(line for line in lines if line.strip(" |"))

    def _cells(self, row: Any) -> list[Any]:
        cells = list(self._inside(row, "tc"))
        shown = [cell for cell in cells if not any(children(p, "cellDel") for p in children(cell, "tcPr"))]
        self.skipped["deletions"] += len(cells) - len(shown)
        return shown

    def _inside(self, parent: Any, name: str) -> Iterator[Any]:
        """Rows of a table or cells of a row, those in content controls and insertions included."""
        for child in parent:
            if not isinstance(child.tag, str):
                continue
            if local(child) == name:
                yield child
            elif local(child) in _DELETED:
                self.skipped["deletions"] += 1
            elif local(child) == "AlternateContent":
                yield from self._inside(choice(child), name)
            elif local(child) in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"):
                yield from self._inside(child, name)

    def _is_deleted(self, row: Any) -> bool:
        deleted = any(children(p, "del") for p in children(row, "trPr"))
        self.skipped["deletions"] += deleted
        return deleted

    # -- inside a paragraph --------------------------------------------------------------------------------------------
    def inline(self, parent: Any) -> str:
        """The text of a paragraph, run or what stands between them."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableFileError("bomb", f"over {MAX_DEPTH} elements inside each other in a paragraph")
        pieces = [self._piece(child) for child in parent if isinstance(child.tag, str)]
        self.depth -= 1
        return "".join(pieces)

    def _piece(self, element: Any) -> str:
        kind = local(element)
        if kind in _DELETED:
            self.skipped["deletions"] += 1
            return ""
        if kind == "fldChar":
            return self._field(element)
        if kind in _CODES:
            return ""
        if kind == "r":
            return self._run(element)
        shown = all(self.fields)  # within the code of a field nothing is, but its marks are to be found
        if shown and (text := self._leaf(kind, element)) is not None:
            return text
        return self.inline(element)

    def _leaf(self, kind: str, element: Any) -> str | None:
        """The text of an element that stands for itself; None where its children are to be looked at."""
        if kind == "t":
            return element.text or ""
        if kind in _INLINE:
            return _INLINE[kind]
        if kind in ("oMath", "oMathPara"):
            return equation(element)
        if kind in ("sym", "symEx"):
            text = symbol_of(value(element, "font"), value(element, "char"))
            self.skipped["symbols"] += not text
            return text
        if kind == "AlternateContent":
            return self.inline(choice(element))
        if kind == "ruby":
            return f"{self._part(element, 'rubyBase')}({self._part(element, 'rt')})"
        if kind in ("footnoteReference", "endnoteReference"):
            self._note(f"{kind.removesuffix('Reference')}:{value(element, 'id')}")
            return ""
        if kind in _BOXES:
            self._box(element)
            return ""
        return None

    def _part(self, element: Any, name: str) -> str:
        return "".join(self.inline(child) for child in children(element, name))

    def _field(self, mark: Any) -> str:
        """Follow the marks of a field. What a form's field shows without a result of its own is its text."""
        kind = value(mark, "fldCharType")
        if kind == "begin":
            shown = all(self.fields)
            if mark not in self._without_end(mark):
                self.fields.append(False)
            return form_value(mark) if shown else ""
        if kind == "separate" and self.fields:
            self.fields[-1] = True
        elif kind == "end" and self.fields:
            self.fields.pop()
        return ""

    def _without_end(self, mark: Any) -> frozenset[Any]:
        """Marks of this part that begin a field which nothing ends: all the rest would be its code, and hidden."""
        root = mark.getroottree().getroot()
        if root not in self._endless:
            begun: list[Any] = []
            for other in root.iter("{*}fldChar"):
                kind = value(other, "fldCharType")
                if kind == "begin":
                    begun.append(other)
                elif kind == "end" and begun:
                    begun.pop()
            self._endless[root] = frozenset(begun)
        return self._endless[root]

    def _run(self, run: Any) -> str:
        hidden, font = self.veiled, ""
        for properties in children(run, "rPr"):
            hidden = hidden or any(value(s) in self.hidden for s in children(properties, "rStyle"))
            for vanish in children(properties, "vanish"):
                hidden = value(vanish) not in ("0", "false", "off")
            font = next((value(fonts, "ascii") for fonts in children(properties, "rFonts")), "")
        if hidden:
            self.skipped["hidden"] += 1
            return ""
        return without_private_use(self.inline(run), font)

    def _note(self, key: str) -> None:
        note = self.notes.pop(key, None)
        if note is None:
            return
        fields, self.fields = self.fields, []
        waiting, self.waiting = self.waiting, []
        text = " ".join(" ".join(self.blocks(note)).split())
        self.fields, self.waiting = fields, waiting
        if text:
            self.waiting.append(f"Note: {text}")

    def _box(self, element: Any) -> None:
        """Text boxes, diagrams and charts wait until their paragraph has ended; pictures are counted."""
        fields, self.fields = self.fields, []
        waiting, self.waiting = self.waiting, []
        found: list[str] = []
        veiled, self.veiled = self.veiled, False
        for part in contents(choice(element) if local(element) == "AlternateContent" else element):
            kind = local(part)
            if kind == "txbxContent":
                found += self.blocks(part)
            elif kind in ("relIds", "chart") and (relation := value(part, "dm") or value(part, "id")):
                found.append(drawn_words(self.drawn(relation)))
            elif kind == "txBody":
                found.append(drawn_words(part))
            elif kind == "textpath":
                found.append(value(part, "string"))
            elif kind == "AlternateContent":
                self._box(part)
            elif kind in ("pic", "imagedata"):
                self.skipped["images"] += 1
            elif kind == "OLEObject":
                self.skipped["embedded"] += 1
        found += self.waiting
        self.veiled = veiled
        self.fields, self.waiting = fields, [*waiting, *(text for text in found if text.strip())]


def _row_of(piece: str) -> str:
    """A piece of a cell on one line; the rows of a table in it stay apart."""
    lines = [" ".join(line.split()) for line in piece.split("\n")]
    return ("; " if " | " in piece else " ").join(lines)


def _fenced(lines: list[str]) -> str:
    text = "\n".join(lines)
    marks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{marks}\n{text}\n{marks}"
