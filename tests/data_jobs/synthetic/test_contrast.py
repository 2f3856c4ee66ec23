"""Rows that a text answers beside rows that it only seems to answer."""

from __future__ import annotations

import random

from cluster.core.records import Document
from data_jobs.synthetic.contrast import ANSWERED, KINDS, contrast_rows
from data_jobs.synthetic.facts import another_number, attribute_questions, facts_of, other_action
from data_jobs.synthetic.invented import ATTRIBUTES, invented_rows

PAGES = [
    Document("ship", "Ships", "The old ferry was built in 1987 by Gdansk Yard. The old ferry has 40 cabins.", ""),
    Document("mill", "Mills", "The windmill was restored in 1951 by Anna Berg. Flour is sold there every morning.", ""),
    Document("copy", "copy2()", "Copy a file to another folder and keep its permission bits and times.", "",
             kind="function", questions=("how do I copy a file with its permissions",)),
    Document("move", "move()", "Move a file to another folder, even on another disk, and return the new name.", "",
             kind="function"),
]  # fmt: skip


def test_facts_of_a_sentence_are_asked_for_in_a_form_that_fits() -> None:
    picker = random.Random(0)
    facts = {fact.answer: fact for fact in facts_of("The old ferry was built in 1987 by Gdansk Yard.")}
    assert set(facts) == {"1987", "Gdansk Yard"}
    assert facts["1987"].subject == "the old ferry"
    assert "the library" in facts["1987"].question(picker, "the library")
    assert all(form.startswith(("Who", "Which person")) for form in facts["Gdansk Yard"].forms)
    (cabins,) = facts_of("The old ferry has 40 cabins.")
    assert (cabins.answer, cabins.forms[0]) == ("40", "How many cabins does {s} have?")
    assert facts_of("It was built in 1987.") == []  # nobody knows what


def test_only_what_a_text_lacks_is_asked_as_a_near_miss() -> None:
    lacks = attribute_questions("the ferry", "The ferry was sold in 1987.")
    assert "Who is in charge of the ferry?" in lacks
    assert not any("sold" in question for question in lacks)
    assert not any(question.startswith("How many") for question in lacks)  # there is a number: who knows
    picker = random.Random(1)
    changed = another_number("What was built in 1987?", "It was built in 1987.", picker)
    assert changed.startswith("What was built in ")
    assert "1987" not in changed
    assert another_number("What was built?", "It was built in 1987.", picker) == ""
    other = other_action("How do I copy a file?", "Copy a file.", picker)
    assert other.startswith("How do I ")
    assert other.endswith(" a file?")
    assert "copy" not in other
    assert other_action("What is a file?", "Copy a file.", picker) == ""


def test_rows_are_pure_of_known_kinds_and_cut_from_their_document() -> None:
    rows = list(contrast_rows(PAGES, 7))
    assert rows == list(contrast_rows(PAGES, 7))
    assert rows != list(contrast_rows(PAGES, 8))
    texts = {page.id: page.text for page in PAGES}
    assert {row.kind for row in rows} <= set(KINDS)
    assert {row.kind for row in rows} >= {ANSWERED, "attribute", "entity"}
    for row in rows:
        assert texts[row.document][row.start : row.start + len(row.text)] == row.text
        assert row.answerable == (row.kind == ANSWERED)
        assert row.answer in row.text
    assert any(row.question == PAGES[2].questions[0] and row.answerable for row in rows)
    asked = {(row.question, row.text): row.answerable for row in rows}
    assert len({answerable for answerable in asked.values()}) == 2
    assert list(contrast_rows([], 7)) == []


def test_every_attribute_is_stated_asked_and_missed() -> None:
    rows = list(invented_rows(1500, 1))
    assert 1500 <= len(rows) < 1510
    assert rows == list(invented_rows(1500, 1))
    assert all(row.answer and row.answer in row.text for row in rows if row.answerable)
    for attribute in ATTRIBUTES:
        starts = {form.split("{")[0] for form in attribute.asked if form[0] != "{"}
        sides = {row.answerable for row in rows if row.question.startswith(tuple(starts))}
        assert sides == {True, False}, attribute.name
    assert 0.3 < sum(row.answerable for row in rows) / len(rows) < 0.5
