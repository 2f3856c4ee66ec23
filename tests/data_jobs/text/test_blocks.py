"""Blocks and units: what is a table, code, a heading, told by layout alone; nothing lost, rows and code never cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.records import Document
from data_jobs.text.blocks import blocks, cells, title_field
from data_jobs.text.chunks import chunk
from data_jobs.text.units import units


def kinds(text: str) -> list[tuple[str, str]]:
    return [(block.kind, text[block.start : block.end]) for block in blocks(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A\ntext", [("heading", "# A"), ("prose", "text")]),
        ("Title\n=====\n\ntext", [("heading", "Title\n====="), ("prose", "text")]),
        ("~~~~~~~\n Title\n~~~~~~~", [("heading", "~~~~~~~\n Title\n~~~~~~~")]),
        ("Title\n~~~~~\n\nmore\n\nNext\n~~~~",
         [("heading", "Title\n~~~~~"), ("prose", "more"), ("heading", "Next\n~~~~")]),
        ("1. Scope\n\n   It covers this and that. Nothing else.", None),
        ("Status of this Memo\n\n   It is a memo. It is free.",
         [("heading", "Status of this Memo"), ("prose", "It is a memo. It is free.")]),
        ("````md\n```\na\n```\n````\nend", [("code", "````md\n```\na\n```\n````"), ("prose", "end")]),
        ("~~~\npip install x\n~~~", [("code", "~~~\npip install x\n~~~")]),
        ("Run:\n\n    make all\n\n    make test\n\nDone.",
         [("prose", "Run:"), ("code", "make all\n\n    make test"), ("prose", "Done.")]),
        ("He said:\n\n    It is a long way to go from here.",
         [("prose", "He said:"), ("prose", "It is a long way to go from here.")]),
        ("- item\n\n    goes on here.", [("prose", "- item"), ("prose", "goes on here.")]),
        (".. code-block:: python\n   :linenos:\n\n   a = 1\n\nend",
         [("code", ".. code-block:: python\n   :linenos:\n\n   a = 1"), ("prose", "end")]),
        ("| a | b |\n|---|---|\n| 1 | 2 |\ntext", [("table", "| a | b |\n|---|---|\n| 1 | 2 |"), ("prose", "text")]),
        ("a | b\n--|--\n1 | 2", [("table", "a | b\n--|--\n1 | 2")]),
        ("a | b\n1 | 2", [("table", "a | b\n1 | 2")]),
        ("cat a | grep b", [("prose", "cat a | grep b")]),
        ("+--+--+\n| a| b|\n+==+==+\n| 1| 2|\n+--+--+", [("table", "+--+--+\n| a| b|\n+==+==+\n| 1| 2|\n+--+--+")]),
        ("==  ==\na   b\n==  ==\n1   2\n==  ==", [("table", "==  ==\na   b\n==  ==\n1   2\n==  ==")]),
        ("Title: T\nStatus: open\n\nText", [("fields", "Title: T\nStatus: open"), ("prose", "Text")]),
        ("Note: this is text.\n\nText", [("prose", "Note: this is text."), ("prose", "Text")]),
        ("plan: A\nprice: 3", [("table", "plan: A\nprice: 3")]),
    ],
)  # fmt: skip
def test_what_a_text_is_made_of(text: str, expected: list[tuple[str, str]] | None) -> None:
    if expected is None:
        assert [kind for kind, _ in kinds(text)] == ["prose", "prose"]
    else:
        assert kinds(text) == expected


LINES = st.sampled_from(
    ["| a | b |", "|---|---|", "a | b", "```", "````py", "~~~", "~~~~~", "    code()", "\tx = 1", "Text here.", "# H",
     "=====", "Title: t", "key: v", "+--+--+", "|  | |", "==  ==", "- item", "", "", ".. code:: c", "   text",
     ">>> f()", "A    B"]
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(LINES, max_size=14), st.sampled_from(["", "```", "| a | b |\n|---|---|", "+--+", ".. code:: c"]))
def test_blocks_and_units_are_ordered_and_lose_nothing(lines: list[str], before: str) -> None:
    text = "\n".join(lines)
    found = list(blocks(text, before))
    assert "".join("".join(text[b.start : b.end].split()) for b in found) == "".join(text.split())
    assert all(a.end <= b.start for a, b in pairwise(found))
    parts = list(units(text, before))
    assert all(a.end <= b.start for a, b in pairwise(parts))
    assert all(text[p.start : p.end].strip() for p in parts)


def of(text: str, header: str = "") -> list[tuple[str, str, str]]:
    return [(part.kind, text[part.start : part.end], part.header) for part in units(text, header)]


def test_rows_know_their_columns_and_code_what_leads_to_it() -> None:
    head = "| a | b |\n|---|---|"
    assert of(f"{head}\n| x. Y | 2 |") == [("row", "| x. Y | 2 |", head)]
    assert of("| x | 2 |\n| y | 3 |", head) == [("row", "| x | 2 |", head), ("row", "| y | 3 |", head)]
    text = "It is small. Install it with pip:\n\n```\npip install a.b\n```"
    code = next(part for part in units(text) if part.kind == "code")
    assert text[slice(*code.lead)] == "Install it with pip:"
    assert text[code.start : code.end] == "```\npip install a.b\n```"
    assert of("b = 2\n```\nText.", "```py") == [("code", "b = 2\n```", "```py"), ("sentence", "Text.", "")]


def test_a_long_table_or_code_block_is_cut_between_lines_and_takes_its_header_along() -> None:
    rows = [f"| name {n} | it. costs. {n} |" for n in range(60)]
    table = "| Name | Cost |\n|---|---|\n" + "\n".join(rows)
    code = "```py\n" + "\n".join(f"x{n} = f({n}). Done" for n in range(60)) + "\n```"
    text = f"# List\n\n{table}\n\n{code}"
    chunks = chunk(Document("a.md", "A", text, "a.md"), lambda t: len(t.split()), 60)
    assert len(chunks) > 8
    lines = set(text.split("\n"))
    for piece in chunks:
        assert set(piece.text.split("\n")) <= lines
        first = piece.text.split("\n")[0]
        assert piece.header == (
            "| Name | Cost |\n|---|---|" if first in rows else "```py" if first.startswith("x") else ""
        )
        assert ("| Name | Cost |" in piece.context + piece.text) == any(row in piece.text for row in rows)


def test_cells_and_title_fields() -> None:
    assert cells(r"| a \| b |  | c |") == [r"a \| b", "", "c"]
    assert title_field("PEP: 1\nTitle: A long\n  title\nAuthor: X\n\nText") == "A long title"
    assert title_field("Some text.\n\nTitle: no header") == ""


@pytest.mark.parametrize(
    "rows", [("A | B | C", "n | 0 |"), ("| 2019 | 2020", "Berlin | 3 | 4"), ("A | B |", "a | b | c")]
)
def test_rows_without_bars_at_their_ends_may_have_empty_cells_there(rows: tuple[str, str]) -> None:
    (table,) = blocks("\n".join(rows))
    assert (table.kind, table.header, len(table.rows)) == ("table", rows[0], 1)
