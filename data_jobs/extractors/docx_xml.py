"""Looking at the elements of Word's XML by their local names, and what some of them show by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_DRAWN = frozenset(
    ("txbxContent", "txBody", "relIds", "chart", "textpath", "AlternateContent", "pic", "imagedata", "OLEObject")
)
_SHOWING = frozenset(("t", "relIds", "chart", "symEx", "textpath"))


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


def first_column(row: list[Any]) -> int:
    """The column in which the first cell of a row stands: rows may begin further to the right."""
    above = row[0].getparent() if row else None
    while above is not None and local(above) != "tr":
        above = above.getparent()
    before = [value(e) for p in children(above, "trPr") for e in children(p, "gridBefore")]
    return int(before[0]) if before and before[0].isdigit() and len(before[0]) < 4 else 0


def form_value(mark: Any) -> str:
    """What a field of a form shows that is no text of the document: the entry chosen of a list, a box to tick."""
    for form in children(mark, "ffData"):
        for chosen in children(form, "ddList"):
            entries = [value(entry) for entry in children(chosen, "listEntry")]
            given = [value(e) for name in ("result", "default") for e in children(chosen, name)]
            place = int(given[0]) if given and given[0].isdigit() and len(given[0]) < 6 else 0
            return entries[place] if place < len(entries) else ""
        for box in children(form, "checkBox"):
            ticks = children(box, "checked") or children(box, "default")
            return "☒" if ticks and value(ticks[0]) not in ("0", "false", "off") else "☐"
    return ""


def contents(element: Any) -> Iterator[Any]:
    """What a drawing holds, not what is inside of that."""
    for child in element:
        if not isinstance(child.tag, str):
            continue
        if local(child) in _DRAWN:
            yield child
        else:
            yield from contents(child)


def choice(element: Any) -> Any:
    """The first form of an alternative that shows text, so that a box is read once; the last one where none does."""
    forms = [e for e in element if isinstance(e.tag, str)]
    for form in forms:
        if any(isinstance(e.tag, str) and local(e) in _SHOWING for e in form.iter()):
            return form
    return forms[0] if forms else element


def drawn_words(root: Any) -> str:
    """The words of a diagram or a chart, a line each, once."""
    found: dict[str, None] = {}
    for element in root.iter() if root is not None else ():
        text = ""
        if is_named(element, "p"):
            text = "".join(t.text or "" for t in element.iter() if is_named(t, "t"))
        elif is_named(element, "pt"):
            text = " ".join(v.text or "" for v in children(element, "v")) or element.text or ""
        elif is_named(element, "v") and not is_named(element.getparent(), "pt"):
            text = element.text or ""
        if text.strip():
            found[text.strip()] = None
    return "\n".join(found)


def is_named(element: Any, name: str) -> bool:
    """Whether it is an element (no comment) of this local name."""
    return isinstance(element.tag, str) and local(element) == name
