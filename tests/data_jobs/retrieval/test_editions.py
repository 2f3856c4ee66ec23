# ruff: noqa: E501 (a table: one pair a line)
"""Editions of one document: which is current, by date or version, wherever the document says it."""

from __future__ import annotations

import time

import pytest

from cluster.core.records import Chunk
from data_jobs.retrieval.editions import asks_for, date_in, editions


def chunk(document: str, title: str, text: str) -> Chunk:
    return Chunk(f"{document}#c0", document, title, document, text, 0, len(text))


@pytest.mark.parametrize(
    ("old", "new", "stamp"),
    [
        (("leave-2022.md", "Leave policy", "25 days"), ("leave-2024.md", "Leave policy", "28 days"), "2024"),
        (("a.md", "Leave policy", "---\ndate: 2022-03-01\n---\n25"), ("b.md", "Leave policy", "---\ndate: 2024-05-01\n---\n28"), "2024-05-01"),
        (("c1.md", "Broker configuration", "Version: 1.9\n"), ("c2.md", "Broker configuration", "Version: 1.10\n"), "version 1.10"),
        (("guide_v1.md", "Guide", "x"), ("guide_v2.md", "Guide", "x"), "version 2"),
        (("old/x.md", "Travel rules", "Last updated: 3 May 2021"), ("new/x.md", "Travel rules", "Last updated: June 1, 2023"), "2023-06-01"),
    ],
)  # fmt: skip
def test_the_newer_edition_is_current(old: tuple[str, str, str], new: tuple[str, str, str], stamp: str) -> None:
    found = editions([chunk(*old), chunk(*new)])
    assert (found[new[0]].stamp, found[new[0]].current) == (stamp, True)
    assert (found[old[0]].current, found[old[0]].newest) == (False, new[0])


@pytest.mark.parametrize(
    "pair",
    [
        (("a.md", "Introduction", "date: 2020-01-01"), ("b.md", "Introduction", "date: 2021-01-01")),  # a title of many
        (("a.md", "Leave policy", "25 days"), ("b.md", "Leave policy", "28 days")),  # nothing says which is newer
        (("a.md", "Leave policy", "date: 2020-01-01"), ("b.md", "Travel policy", "date: 2021-01-01")),
        (("notes/2024-01-05.md", "Notes", "x"), ("notes/2024-01-12.md", "Notes", "y")),  # named by their day
        (("chapter-1.md", "Chapter 1", "date: 2023-01-01"), ("chapter-2.md", "Chapter 2", "date: 2024-01-01")),
        (("2021/report.md", "Sales of 2021", "x"), ("notes.md", "Notes", "date: 2021-01-01")),
    ],
)  # fmt: skip
def test_documents_that_are_no_editions_of_each_other(pair: tuple[tuple[str, str, str], ...]) -> None:
    assert editions([chunk(*one) for one in pair]) == {}


def test_many_of_one_title_are_a_series() -> None:
    assert editions([chunk(f"m-2024-0{n}.md", "Weekly meeting", f"date: 2024-0{n}-01") for n in range(1, 8)]) == {}


def test_dates_are_read_in_several_spellings() -> None:
    for text in ("2024-05-01", "1 May 2024", "May 1, 2024", "1. Mai 2024", "2024/5/1"):
        assert date_in(text) == ((2024, 5, 1), "2024-05-01")
    assert date_in("nothing here") is None


def test_the_year_in_a_document_s_name_is_its_own_and_not_the_year_it_was_published() -> None:
    found = editions([chunk(f"report-{n}.md", "Annual report", f"date: {n + 1}-03-01") for n in (2022, 2023)])
    old = found["report-2022.md"]
    assert asks_for("What was revenue in 2022?", old, "report-2022.md Annual report")
    assert not asks_for("What was revenue in 2023?", old, "report-2022.md Annual report")


def test_a_header_is_read_in_linear_time() -> None:
    began = time.process_time()
    editions([chunk("a.md", "Some title", "date" + "\n" * 700), chunk("b.md", "Some title", "\n" * 700)])
    assert time.process_time() - began < 0.5


def test_a_question_may_ask_for_an_older_edition() -> None:
    found = editions([chunk("p-2022.md", "Leave policy", "x"), chunk("p-2024.md", "Leave policy", "x")])
    assert asks_for("How many days were there in 2022?", found["p-2022.md"])
    assert not asks_for("How many days are there?", found["p-2022.md"])
