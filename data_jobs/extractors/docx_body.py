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
_SYMBOLS = dict(zip("abcdefghijklmnopqrstuvwxyz", "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)) | dict(
    zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)
)


def local(element: Any) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Any, name: str) -> list[Any]:
    """The children of one name; none of no element."""
    return [e for e in element if isinstance(e.tag, str) and local(e) == name] if element is not None else []


def value(element: Any, name: str = "val") -> str:
    """An attribute by its local name, empty where it is missing."""
    if element is None:
        return ""
    return next((str(v) for k, v in element.attrib.items() if k.rpartition("}")[2] == name), "")


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
                style, text = self._style(block), self.inline(block)
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
                yield from self._flat(_choice(child), depth + 1)
            elif kind not in _CODES:
                yield from self._flat(child, depth + 1)

    def _behind(self) -> Iterator[str]:
        waiting, self.waiting = self.waiting, []
        yield from (text for text in waiting if text.strip())

    def _style(self, paragraph: Any) -> str:
        found = [s for p in children(paragraph, "pPr") for s in children(p, "pStyle")]
        return self.names.get(value(found[0]), "") if found else ""

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
            texts, column = [], 0
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
                column += int(span) if span.isdigit() else 1
            lines.append(" | ".join(texts))
        self.waiting = waiting
        return "\n".join(line for line in lines if line.strip(" |"))

    def _cells(self, row: Any) -> list[Any]:
        return list(self._inside(row, "tc"))

    def _inside(self, parent: Any, name: str) -> Iterator[Any]:
        """Rows of a table or cells of a row, those in content controls and insertions included."""
        for child in parent:
            if not isinstance(child.tag, str):
                continue
            if local(child) == name:
                yield child
            elif local(child) in _DELETED:
                self.skipped["deletions"] += 1
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
            return self._field(value(element, "fldCharType"))
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
        if kind == "sym":
            return self._symbol(element)
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

    def _field(self, kind: str) -> str:
        if kind == "begin":
            self.fields.append(False)
        elif kind == "separate" and self.fields:
            self.fields[-1] = True
        elif kind == "end" and self.fields:
            self.fields.pop()
        return ""

    def _run(self, run: Any) -> str:
        for properties in children(run, "rPr"):
            vanish = [v for v in children(properties, "vanish") if value(v) not in ("0", "false")]
            if vanish or any(value(s) in self.hidden for s in children(properties, "rStyle")):
                self.skipped["hidden"] += 1
                return ""
        return self.inline(run)

    def _symbol(self, element: Any) -> str:
        """A character of a symbol font: Greek letters as letters, ticks as ticks, others are no text."""
        font, code = value(element, "font").lower(), value(element, "char")
        char = chr(int(code, 16) & 0xFF) if code and len(code) <= 4 else ""
        if font == "symbol" and char in _SYMBOLS:
            return _SYMBOLS[char]
        if "wingdings" in font:
            return {"\xfc": "✓", "\xfb": "✗", "\xfe": "☑", "\xe0": "→"}.get(char, "")
        self.skipped["symbols"] += 1
        return ""

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
        for part in _contents(_choice(element) if local(element) == "AlternateContent" else element):
            kind = local(part)
            if kind == "txbxContent":
                found += self.blocks(part)
            elif kind in ("relIds", "chart") and (relation := value(part, "dm") or value(part, "id")):
                found.append(_drawn(self.drawn(relation)))
            elif kind == "AlternateContent":
                self._box(part)
            elif kind in ("pic", "imagedata"):
                self.skipped["images"] += 1
            elif kind == "OLEObject":
                self.skipped["embedded"] += 1
        found += self.waiting
        self.fields, self.waiting = fields, [*waiting, *(text for text in found if text.strip())]


def _contents(element: Any) -> Iterator[Any]:
    """What a drawing holds, not what is inside of that."""
    for child in element:
        if not isinstance(child.tag, str):
            continue
        if local(child) in ("txbxContent", "relIds", "chart", "AlternateContent", "pic", "imagedata", "OLEObject"):
            yield child
        else:
            yield from _contents(child)


def _choice(element: Any) -> Any:
    """The first form of an alternative that shows text, so that a box is read once; the last one where none does."""
    forms = [e for e in element if isinstance(e.tag, str)]
    for form in forms:
        if any(isinstance(e.tag, str) and local(e) in ("t", "relIds", "chart") for e in form.iter()):
            return form
    return forms[0] if forms else element


def _drawn(root: Any) -> str:
    """The words of a diagram or a chart, a line each, once."""
    found: dict[str, None] = {}
    for element in root.iter() if root is not None else ():
        text = ""
        if _is(element, "p"):
            text = "".join(t.text or "" for t in element.iter() if _is(t, "t"))
        elif _is(element, "pt"):
            text = " ".join(v.text or "" for v in children(element, "v"))
        if text.strip():
            found[text.strip()] = None
    return "\n".join(found)


def _is(element: Any, name: str) -> bool:
    return isinstance(element.tag, str) and local(element) == name


def _row_of(piece: str) -> str:
    """A piece of a cell on one line; the rows of a table in it stay apart."""
    lines = [" ".join(line.split()) for line in piece.split("\n")]
    return ("; " if " | " in piece else " ").join(lines)


def _fenced(lines: list[str]) -> str:
    text = "\n".join(lines)
    marks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{marks}\n{text}\n{marks}"
