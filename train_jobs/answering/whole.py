"""Rows of tables and code blocks as an answer shows them: whole, on lines of their own, as Markdown.

Every line is the document's own. Only marks are added: the ``|---|`` that makes a table of two lines, the fences around
code that has none, and an ellipsis where code is too long.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import takewhile

from data_jobs.text.blocks import cells, directive_language, is_fence, is_separator
from train_jobs.answering.citations import ELLIPSIS

FENCE = "```"
_OPTION = re.compile(r"[ \t]+:[\w-]+:(?:[ \t]|$)")  # of a directive of reStructuredText
_MARKS_ONLY = re.compile(r"[^\w\s]+")


def words(text: str) -> int:
    """Words of a text; marks between them (the bars of a table) are none."""
    return sum(not _MARKS_ONLY.fullmatch(word) for word in text.split())


def shown_rows(rows: Sequence[str], header: str) -> str:
    """Rows of one table below the names of its columns, each as the document has it."""
    first = header.strip().split("\n")[0]
    if "|" not in rows[0] or first[:1] in ("+", "="):
        # Columns that blanks or borders make are read as they stand; a record says its names itself.
        return "\n".join((FENCE, header, *rows, FENCE)) if header else "\n".join(rows)
    lines = [line.strip() for line in header.split("\n") if header]
    if len(lines) == 1 and not is_separator(lines[0]):
        lines.append(f"|{'---|' * len(cells(lines[0]))}" if lines[0].startswith("|") else _rule(lines[0]))
    return "\n".join((*lines, *(row.strip() for row in rows)))


def _rule(header: str) -> str:
    return " | ".join(["---"] * len(cells(header)))


_GOES_ON = ("(", "[", "{", ",", "\\")


def shown_code(code: str, header: str, indent: int, max_words: int) -> str:
    """Code between fences, cut after whole statements where it has more than ``max_words`` words (after whole lines,
    where the first one is longer).

    Args:
        code: a code block, its fences included where it has some.
        header: the opening fence (or directive), where that stands before ``code``.
        indent: blanks before the first line in the document.
    """
    lines = (" " * indent + code.expandtabs(4)).split("\n")
    fence = header.strip() if header else lines[0].strip()
    if (language := directive_language(fence)) is not None:
        fence, options = FENCE + language, [line for line in lines if not _OPTION.match(line)]
        lines = options if header else options[1:]
    elif not is_fence(fence):
        fence = FENCE
    elif not header:
        lines = lines[1:]
    closing = "".join(takewhile(lambda c: c == fence[0], fence))
    if lines and set(lines[-1].strip()) == {closing[0]} and len(lines[-1].strip()) >= len(closing):
        lines = lines[:-1]
    lines = textwrap.dedent("\n".join(lines)).strip("\n").split("\n")
    kept: list[str] = []
    for line in lines:
        if kept and words("\n".join((*kept, line))) > max_words:
            whole = _closed(kept)  # but a long block is cut within rather than left out
            kept = [*(whole if 2 * len(whole) >= len(kept) else kept), ELLIPSIS]
            break
        kept.append(line)
    else:
        if kept[-1].rstrip().endswith(_GOES_ON) and (whole := _closed(kept)) != kept:  # its passage ended within it
            kept = [*whole, ELLIPSIS]
    return "\n".join((fence, *kept, closing))


def _closed(lines: list[str]) -> list[str]:
    """The lines up to the last one behind which no bracket is open; all of them where that is none. Brackets within
    strings count, too: what is cut is shown with an ellipsis in any case."""
    depth = end = 0
    for number, line in enumerate(lines, 1):
        depth += sum(line.count(c) for c in "([{") - sum(line.count(c) for c in ")]}")
        if depth <= 0 and line.strip():
            end = number
    return lines[:end] or lines
