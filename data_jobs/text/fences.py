"""Where code stands in a text: fenced and indented blocks, as CommonMark has them.

A fence is a line of at least three backticks or tildes; it is closed by a line of the same character, at least as long,
with nothing behind it. So a block can show fences, and a line like a fence with a backtick behind it is a span of code
in a sentence. A fence may be indented as far as the list it is in; one that nothing closes opens nothing.
"""

from __future__ import annotations

import re

_FENCE = re.compile(r"^[ \t]*(`{3,}(?=[^`\n]*$)|~{3,})(.*)$", re.MULTILINE)


def fenced_blocks(text: str) -> list[tuple[int, int]]:
    """Spans of fenced code in order, from the first character of the opening line to the end of the closing one."""
    blocks: list[tuple[int, int]] = []
    fences = list(_FENCE.finditer(text))
    unclosed: dict[str, int] = {}  # the shortest fence of each character that nothing closes: longer ones neither
    number = 0
    while number < len(fences):
        opening, mark = fences[number], fences[number][1]
        if len(mark) < unclosed.get(mark[0], len(mark) + 1):
            closed = _closing(fences, number, mark)
            if closed is None:
                unclosed[mark[0]] = len(mark)
            else:
                blocks.append((opening.start(), fences[closed].end()))
                number = closed
        number += 1
    return blocks


def _closing(fences: list[re.Match[str]], opening: int, mark: str) -> int | None:
    for number in range(opening + 1, len(fences)):
        found = fences[number]
        if found[1][0] == mark[0] and len(found[1]) >= len(mark) and not found[2].strip():
            return number
    return None
