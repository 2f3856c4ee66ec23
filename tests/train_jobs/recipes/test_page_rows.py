"""Rows from pages that people's questions were written for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import BadInputError
from train_jobs.recipes import page_rows
from train_jobs.recipes.reader import parse

FERRY = (
    "The ferry leaves at 7:40 from the north quay and lands in Lund at nine. Bicycles travel for nothing. Dogs need a "
    "muzzle and a ticket of two crowns. The boat has seats for 140 people. In storms it stays in the harbour until the "
    "wind has turned."
)
PAGES = f"""\
= Ferry to Lund | Times
{FERRY}
+ When does the boat set off? ||| 7:40
+ What does it cost to take a bike? ||| for nothing
- When does the ferry to Malmo leave?
= Ferry to Lund | Lost things
What was left on board is kept for thirty days in the office behind the kiosk.
+ How long do they hold on to a lost bag? ||| thirty days
- Who runs the kiosk?
= Bread of the month | Rye
The rye loaf of May is baked by Imre Szabo with caraway.
+ Who makes May's loaf? ||| Imre Szabo
- What does the loaf cost?
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.txt").write_text(PAGES, encoding="utf-8")
    return tmp_path


def test_an_answered_question_has_its_answer_in_the_window(folder: Path) -> None:
    rows = [row for row in page_rows.page_rows(folder, 1) if row["kind"] == "page_answered"]
    assert {row["question"] for row in rows} == {
        "When does the boat set off?", "What does it cost to take a bike?",
        "How long do they hold on to a lost bag?", "Who makes May's loaf?",
    }  # fmt: skip
    said = {row["question"]: row["text"][slice(*row["answer"])] for row in rows}
    assert said["When does the boat set off?"] == "7:40"
    assert all(row["answerable"] and parse(row)["span"] for row in rows)


def test_no_window_with_the_answer_is_called_one_without(folder: Path) -> None:
    answers = {q: a for page in page_rows.read_pages(folder / "one.txt") for s in page for q, a in s.answered}
    rows = [row for seed in range(8) for row in page_rows.page_rows(folder, seed) if not row["answerable"]]
    assert {row["kind"] for row in rows} == {"page_unanswered", "page_part", "page_beside", "page_elsewhere"}
    assert not [row for row in rows if row["question"] in answers and answers[row["question"]] in row["text"]]


def test_sections_of_one_title_are_one_document_and_name_their_heading(folder: Path) -> None:
    rows = list(page_rows.page_rows(folder, 1))
    assert len({row["document"] for row in rows}) == 2
    assert {row["title"] for row in rows} == {
        "Ferry to Lund | Times", "Ferry to Lund | Lost things", "Bread of the month | Rye",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("A text.\n", "line 1: a page begins"),
        ("= T | S\nA text.\n+ What? ||| words\n", "line 3: the text above does not hold the answer 'words'"),
        ("= T | S\nA text.\n+ What?\n", "line 3: the text above does not hold the answer ''"),
        ("= T | S\nA text.\nAnother.\n", "line 3: a section has one line"),
    ],
)
def test_a_line_out_of_its_place_is_named(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "bad.txt").write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=what):
        page_rows.read_pages(tmp_path / "bad.txt")


def test_the_pages_that_ship_can_be_read() -> None:
    files = sorted(page_rows.FOLDER.glob("*.txt"))
    assert files
    sections = [section for path in files for page in page_rows.read_pages(path) for section in page]
    assert all(section.text and section.answered and section.unanswered for section in sections)
