"""Lists in a text, quoted whole: the steps of a procedure, the items of an enumeration, below what leads to them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from data_jobs.retrieval.asking import LIST, STEPS, Form
from train_jobs.answering.citations import ELLIPSIS
from train_jobs.answering.whole import words

_ITEM = re.compile(r"([ \t]*)(?:([-*+•])|(\d{1,3}|[a-z])[.)])[ \t]+\S")
_BLANK = re.compile(r"\s*$")


@dataclass(frozen=True)
class ListFound:
    """A list in a text: ``start, end`` its span; ``lead_start, lead_end`` the line that ends in a colon before it
    (equal where there is none); ``ordered`` whether its items are numbered; ``items`` where each begins."""

    start: int
    end: int
    lead_start: int
    lead_end: int
    ordered: bool
    items: tuple[int, ...]


def asks_for_list(form: Form, found: ListFound, leads: bool) -> bool:
    """Whether a question wants the whole list: it asks for several things, or how, and the steps are numbered; or what
    was found leads to the list and says nothing alone."""
    return leads or (form.name == LIST and not form.wanted) or (form.name == STEPS and found.ordered)


def list_at(text: str, start: int, end: int) -> ListFound | None:
    """The list that ``text[start:end]`` stands in, or that follows right after it; None without one of two items."""
    lines, starts = text.split("\n"), [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    at = _line_of(starts, start)
    own = _item_above(lines, at)
    if own is None:
        following = _line_of(starts, max(start, end - 1)) + 1
        while following < len(lines) and _BLANK.match(lines[following]):
            following += 1
        if following >= len(lines) or not _ITEM.match(lines[following]):
            return None
        own = following
    first, last, items = _extent(lines, own)
    if len(items) < 2:
        return None
    matched = _ITEM.match(lines[first])
    lead = _lead(lines, first)
    span = (starts[lead[0]], starts[lead[1]] + len(lines[lead[1]])) if lead else (starts[first], starts[first])
    return ListFound(
        starts[first],
        starts[last] + len(lines[last]),
        *span,
        bool(matched and matched[3]),
        tuple(starts[i] for i in items),
    )


def _line_of(starts: list[int], offset: int) -> int:
    return next(i for i in range(len(starts) - 1) if offset < starts[i + 1])


def _item_above(lines: list[str], at: int) -> int | None:
    """The line where the item begins that line ``at`` belongs to."""
    for line in range(at, -1, -1):
        if _ITEM.match(lines[line]):
            return line
        if not lines[line].startswith((" ", "\t")) and not (line == at and line and _continues(lines, line)):
            return None
    return None


def _continues(lines: list[str], at: int) -> bool:
    """Whether an unindented line goes on with the item of the line before it (lazy continuation)."""
    return bool(lines[at].strip()) and bool(_ITEM.match(lines[at - 1]))


def _extent(lines: list[str], own: int) -> tuple[int, int, list[int]]:
    """First and last line of the list around an item, and the lines where its items (of this depth) begin."""
    matched = _ITEM.match(lines[own])
    depth, ordered = len(matched[1]) if matched else 0, bool(matched and matched[3])
    items, last = [own], own

    def same(line: str) -> bool:
        found = _ITEM.match(line)
        return bool(found and len(found[1]) == depth and bool(found[3]) == ordered)

    def inside(line: str) -> bool:
        return line.startswith((" " * (depth + 1), "\t"))

    for at in range(own + 1, len(lines)):
        if same(lines[at]):
            items.append(at)
        elif lines[at].strip() and not inside(lines[at]) and (at - 1 != last or _starts_block(lines[at])):
            break  # neither within an item, nor the next line of one that is not indented
        if lines[at].strip():
            last = at
        elif at + 1 < len(lines) and not (same(lines[at + 1]) or inside(lines[at + 1])):
            break
    first = own
    for at in range(own - 1, -1, -1):
        if same(lines[at]):
            items.insert(0, at)
            first = at
        elif lines[at].strip() and not inside(lines[at]):
            break
    return first, last, items


def _starts_block(line: str) -> bool:
    return bool(re.match(r"[ \t]*(?:#{1,6} |```|~~~|>|\||[-*_]{3,})", line)) or bool(_ITEM.match(line))


def _lead(lines: list[str], first: int) -> tuple[int, int] | None:
    """The paragraph right before a list where it ends in a colon."""
    at = first - 1
    while at >= 0 and not lines[at].strip():
        at -= 1
    if at < 0 or not lines[at].rstrip().endswith((":", "：")):
        return None
    top = at
    while top > 0 and lines[top - 1].strip() and not _ITEM.match(lines[top - 1]) and not lines[top - 1].startswith("#"):
        top -= 1
    return top, at


def shown_list(text: str, found: ListFound, max_words: int) -> str:
    """The list as the document has it, cut after whole items where it has more than ``max_words`` words; empty where
    not even two items fit."""
    bounds = [*found.items, found.end]
    kept = 0
    for number in range(1, len(bounds)):
        if words(text[found.start : bounds[number]]) > max_words:
            break
        kept = number
    if kept < 2:
        return ""
    body = textwrap.dedent(text[found.start : bounds[kept]].expandtabs(4)).strip("\n").rstrip()
    return body if kept == len(found.items) else f"{body}\n{ELLIPSIS}"
