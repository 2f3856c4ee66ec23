"""The walk through a page's elements: everything a browser shows, in order, as Markdown.

In: text of every element, captions, asides, notes, terms and definitions, open and closed details, values of form
fields, alternatives of pictures, words in drawings, equations. Tables of data are a row a line, ``a | b | c``, with a
value that spans rows in each of them; tables that only lay a page out are read as what they hold. Out, and counted:
what is hidden (by attribute, by its own style, by classes for screen readers), scripts and templates, what only
browsers without scripts or players show, and navigation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data_jobs.extractors.protocol import Budget, Skipped

MAX_SPAN = 1_000  # rows that one cell may stand in
_BLANKS = re.compile(r"[ \t\n\r\f]+")
_HIDING = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))\b", re.I)
_UNSEEN_CLASSES = frozenset(
    ("sr-only", "visually-hidden", "screen-reader-text", "katex-mathml", "mjx_assistive_mathml", "mwe-math-mathml-a11y")
)
_SCRIPTS = frozenset(("head", "script", "style", "template", "link", "meta"))
_INSTEAD = frozenset(("noscript", "iframe", "audio", "video", "object", "canvas", "datalist", "meter", "progress"))
_TYPED = frozenset(
    ("text", "search", "email", "url", "tel", "number", "date", "time", "month", "week", "datetime-local")
)
_PRESSED = frozenset(("submit", "button", "reset"))
_ROW_GROUPS = frozenset(("table", "thead", "tbody", "tfoot", "tr"))
_TABLE_PARTS = _ROW_GROUPS | frozenset(("td", "th", "caption", "colgroup", "col"))
_OF_DRAWINGS = frozenset(("title", "desc", "metadata", "defs"))
_BLOCK_NAMES = (
    "html body address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr legend li listing main menu nav noframes ol optgroup "
    "option p plaintext pre search section select summary svg table caption tbody td text textarea tfoot th thead tr "
    "ul xmp"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_RAW = frozenset(("pre", "textarea", "listing", "xmp", "plaintext"))
_TIGHT = frozenset(("li", "dt", "dd", "option", "optgroup"))
_LAYOUT_NAMES = "table pre h1 h2 h3 h4 h5 h6 blockquote section article form textarea"
_LAYOUT = frozenset(_LAYOUT_NAMES.split())  # a table that holds one of these lays out a page
_STRUCK = frozenset(("del", "s", "strike"))
_BETWEEN = {"mfrac": "/", "msup": "^", "msub": "_", "munder": "_", "mover": "^"}
_LINE_NUMBERS = re.compile(r"[\d\s]+")


@dataclass
class Block:
    """One piece of a page: a heading, a paragraph, a list item, code, a table; ``element`` is what it is of."""

    text: str
    element: Any
    tight: bool = False  # on the line after the block before it, without a blank one


def blocks_text(blocks: Sequence[Block]) -> str:
    """The blocks as one text."""
    parts = []
    for number, block in enumerate(blocks):
        parts.append(("\n" if block.tight and blocks[number - 1].tight else "\n\n") if number else "")
        parts.append(block.text)
    return "".join(parts)


class Walk:
    """One walk through an element; ``blocks`` is what came of it, ``title`` the page's."""

    def __init__(self, budget: Budget, skipped: Skipped) -> None:
        self.budget, self.skipped = budget, skipped
        self.blocks: list[Block] = []
        self.title = ""
        self._pieces: list[str] = []
        self._prefix = ""
        self._lists: list[int | None] = []  # open lists: the next number, None for one without
        self._item = 0  # how far the text of the innermost list item is indented
        self._raw = 0

    def over(self, root: Any) -> Walk:
        """Walk over everything in ``root``."""
        from lxml import etree

        events = etree.iterwalk(root, events=("start", "end"))
        unseen: list[Any] = []
        for event, element in events:
            name = _name(element)
            if event == "start":
                if unseen:
                    continue
                if self._is_unseen(element, name) or self._replaced(element, name):
                    unseen.append(element)
                    events.skip_subtree()
                    continue
                self._start(element, name)
                self._text(element.text)
                continue
            if unseen and unseen[-1] is element:
                unseen.pop()
            else:
                self._end(element, name)
            if element is not root:
                self._text(element.tail)
        self._flush(root)
        return self

    # -- what is not shown, and what is shown as something else -------------------------------------------------------
    def _is_unseen(self, element: Any, name: str) -> bool:
        if name == "template" and (element.get("shadowrootmode") or element.get("shadowroot")):
            return False  # a browser shows it where it stands
        if name in _SCRIPTS:
            if name == "head":
                self.title = next((t.text or "" for t in element if _name(t) == "title"), "")
            return True
        if name == "title" and not self.title and not _inside(element, "svg"):
            self.title = "".join(element.itertext())
            return True
        kind = ""
        if name in _INSTEAD:
            kind = "instead_of_scripts_or_players"
        elif name in _OF_DRAWINGS and _inside(element, "svg"):
            kind = "hidden"
        elif name == "nav" or (element.get("role") or "").lower() == "navigation":
            kind = "navigation"
        elif (
            element.get("hidden", "until-found").lower() != "until-found"  # that is text which a search opens
            or _HIDING.search(element.get("style") or "")
            or _UNSEEN_CLASSES & set((element.get("class") or "").lower().split())
            or name in ("annotation", "annotation-xml", "rp")
            or (name == "dialog" and element.get("open") is None)
        ):
            kind = "hidden"
        if kind and name != "rp" and (element.get("srcdoc") or any(text.strip() for text in element.itertext())):
            self.skipped[kind] += 1
        return bool(kind)

    def _replaced(self, element: Any, name: str) -> bool:
        """Elements that are shown as something else than their content; true where that is done."""
        if name in ("img", "area"):
            self.skipped["images"] += name == "img"
            self._text(element.get("alt"))
            return True
        if name == "input":
            kind = (element.get("type") or "text").lower()
            if kind in _TYPED or kind in _PRESSED:
                self._text(f" {element.get('value') or (kind in _TYPED and element.get('placeholder')) or ''} ")
            elif kind == "image":
                self._text(f" {element.get('alt') or ''} ")
            return True
        if name == "option" and element.get("label"):
            self._flush(element)
            self._text(element.get("label"))
            self._flush(element)
            return True
        if name == "table" and (rows := _data_rows(element)):
            self._flush(element)
            self._table(element, rows)
            return True
        return False

    # -- elements ------------------------------------------------------------------------------------------------------
    def _start(self, element: Any, name: str) -> None:
        if name in _BLOCKS:
            if self._raw and name not in _RAW:
                self._line_end()
                return
            self._flush(element)
        if name in _RAW:
            self._raw += 1
        elif name[:1] == "h" and name[1:].isdigit():
            self._prefix = "#" * min(6, int(name[1:])) + " "
        elif name in ("ul", "ol", "menu", "dir"):
            start = element.get("start") or "1"
            self._lists.append((int(start) if start.lstrip("-").isdigit() else 1) if name == "ol" else None)
        elif name == "li":
            self._enter_item(element)
        elif name == "optgroup":
            self._text(element.get("label"))
            self._flush(element)
        elif name == "br":
            self._pieces.append("\n")
        elif name in _STRUCK:
            self._pieces.append("~~")
        elif name == "q":
            self._pieces.append("“")
        elif name == "rt":
            self._pieces.append("(")
        elif name == "sup" and self._ends_with_digit() and "".join(element.itertext()).strip().isdigit():
            self._pieces.append("^")
        self._between(element)

    def _end(self, element: Any, name: str) -> None:
        if name in _STRUCK:
            self._pieces.append("~~")
        elif name == "q":
            self._pieces.append("”")
        elif name == "rt":
            self._pieces.append(")")
        if name not in _BLOCKS:
            return
        if self._raw and name not in _RAW:
            self._line_end()
            return
        if name in _RAW:
            self._flush_raw(element)
            self._raw -= 1
            return
        self._flush(element)
        if name in ("ul", "ol", "menu", "dir") and self._lists:
            self._lists.pop()
        if name == "li":
            self._item = 2 * max(0, len(self._lists) - 1)

    def _enter_item(self, element: Any) -> None:
        number = self._lists[-1] if self._lists else None
        indent = " " * 2 * max(0, len(self._lists) - 1)
        if number is not None:
            given = element.get("value") or ""
            number = int(given) if given.lstrip("-").isdigit() else number
            self._lists[-1] = number + 1
        self._prefix = indent + ("- " if number is None else f"{number}. ")
        self._item = len(indent) + 2

    def _between(self, element: Any) -> None:
        """Fractions and powers of equations: the sign between their two parts."""
        above = element.getparent()
        mark = _BETWEEN.get(_name(above)) if above is not None else None
        if mark and element.getprevious() is not None and element.getprevious().getprevious() is None:
            self._pieces.append(mark)

    def _ends_with_digit(self) -> bool:
        return bool(self._pieces) and self._pieces[-1][-1:].isdigit()

    # -- text ----------------------------------------------------------------------------------------------------------
    def _text(self, text: str | None) -> None:
        if text:
            self._pieces.append(text if self._raw else _BLANKS.sub(" ", text))

    def _line_end(self) -> None:
        if self._pieces and not self._pieces[-1].endswith("\n"):
            self._pieces.append("\n")

    def _flush(self, element: Any) -> None:
        """End the block of text that is open, if there is one."""
        if self._raw:
            self._flush_raw(element)
            return
        lines = "".join(self._pieces).split("\n")
        text = "\n".join(line for line in (_BLANKS.sub(" ", line).strip() for line in lines) if line)
        self._pieces.clear()
        if not text.strip("~“” "):
            return
        prefix, self._prefix = self._prefix, ""
        if prefix.startswith("#"):
            text = " ".join(text.split("\n"))
        indent = " " * (self._item if self._lists else 0)
        text = (prefix or indent) + text.replace("\n", "\n" + indent)
        self._add(text, element, tight=bool(self._lists) or _name(element) in _TIGHT)

    def _flush_raw(self, element: Any) -> None:
        text = "".join(self._pieces).replace("\r\n", "\n").replace("\r", "\n").strip("\n").rstrip()
        self._pieces.clear()
        if not text.strip() or (_LINE_NUMBERS.fullmatch(text) and "\n" in text and _inside(element, "td")):
            return
        marks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
        self._add(f"{marks}\n{text}\n{marks}", element)

    def _add(self, text: str, element: Any, tight: bool = False) -> None:
        self.budget.take_text(text)
        self.blocks.append(Block(text, element, tight))

    # -- tables --------------------------------------------------------------------------------------------------------
    def _table(self, table: Any, rows: Sequence[Any]) -> None:
        for caption in (e for e in table if _name(e) == "caption"):
            self.blocks += Walk(self.budget, self.skipped).over(caption).blocks
        self._beside_cells(table)
        lines: list[str] = []
        above: dict[int, tuple[int, str]] = {}  # column -> rows still to come and the text that stands in them
        group = None
        for row in rows:
            if self._is_unseen(row, "tr"):
                continue
            if row.getparent() is not group:  # no cell goes on in another part of the table
                group, above = row.getparent(), {}
            texts: list[str] = []
            for cell in (e for e in row if _name(e) in ("td", "th")):
                self._carry(above, texts)
                text = "" if self._is_unseen(cell, _name(cell)) else self._cell(cell)
                rest = (_span(cell, "rowspan") or MAX_SPAN) - 1  # 0: down to the end
                for said in (text, *[""] * (_span(cell, "colspan") - 1)):  # what follows stands below its heading
                    if rest > 0:
                        above[len(texts)] = (rest, said)
                    texts.append(said)
            self._carry(above, texts)
            if any(texts):
                lines.append(" | ".join(texts).rstrip())
        if lines:
            self._add("\n".join(lines), table)

    def _beside_cells(self, table: Any) -> None:
        """What stands in a table outside of its cells: browsers show it above the table."""
        for part in (e for e in table.iter() if _name(e) in _ROW_GROUPS):
            self._text(part.text)
            for child in part:
                name = _name(child)
                if name not in _TABLE_PARTS and not self._is_unseen(child, name):
                    self._flush(table)
                    self.blocks += Walk(self.budget, self.skipped).over(child).blocks
                self._text(child.tail)
        self._flush(table)

    @staticmethod
    def _carry(above: dict[int, tuple[int, str]], texts: list[str]) -> None:
        while len(texts) in above:
            column = len(texts)
            rest, text = above[column]
            texts.append(text)
            if rest > 1:
                above[column] = (rest - 1, text)
            else:
                del above[column]

    def _cell(self, cell: Any) -> str:
        inside = Walk(self.budget, self.skipped).over(cell)
        return " ".join(" ".join(block.text.split()) for block in inside.blocks)


def _data_rows(table: Any) -> list[Any]:
    """The rows of a table of data, in the order they are shown; none for one that lays out a page."""
    rows, cells = [], 0
    for element in table.iterdescendants():
        name = _name(element)
        if name in _LAYOUT:
            return []
        if name == "tr":
            rows.append(element)
            cells = max(cells, sum(_name(e) in ("td", "th") for e in element))
    if cells < 2:
        return []
    return sorted(rows, key=lambda row: _name(row.getparent()) == "tfoot")


def _span(cell: Any, name: str) -> int:
    given = (cell.get(name) or "").strip()
    return min(int(given), MAX_SPAN) if given.isdigit() and len(given) < 6 else 1


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _inside(element: Any, name: str) -> bool:
    return any(_name(above) == name for above in _above(element))


def _above(element: Any) -> Iterator[Any]:
    above = element.getparent()
    while above is not None:
        yield above
        above = above.getparent()
