"""Answers by the form that was asked for, over fabricated searches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import OutlineFound, Retrieval, ScoredSentence, Understood
from tests.train_jobs.answering.retrievals import COPYING, HANDBOOK, passage, retrieval
from train_jobs.answering.forms.refusal import UNKNOWN
from train_jobs.answering.quote import answer

SECTION = AnswerSection()
QUEUE = passage("q.md", "A queue is a list of messages.", kind="file", title="Queues")
STREAM = passage("s.md", "A stream is a log of messages.", kind="file", title="Streams")
WEAK = {
    "top_dense": 0.05,
    "mean_dense": 0.05,
    "top_sentence": 0.0,
    "coverage_1": 0.0,
    "coverage_3": 0.0,
    "strange_words": 2.0,
}


def sides(question: str, one: Retrieval, other: Retrieval) -> Retrieval:
    return replace(retrieval(question, [QUEUE, STREAM]), understood=Understood(parts=(one, other)))


def test_both_sides_of_a_comparison_are_quoted_with_a_citation_each() -> None:
    question = "What is the difference between a queue and a stream?"
    made = answer(
        question, sides(question, retrieval("What is queue?", [QUEUE]), retrieval("What is stream?", [STREAM])), SECTION
    )
    assert made.text == 'queue: "A queue is a list of messages." [1]\n\nstream: "A stream is a log of messages." [2]'
    assert [one.document for one in made.citations] == ["q.md", "s.md"]
    assert (made.grounded, made.reason, made.form) == (True, "supported", "comparison")


def test_a_side_that_is_missing_is_said() -> None:
    question = "What is the difference between a queue and a zorb?"
    missing = retrieval("What is zorb?", [QUEUE])  # the nearest passage does not speak of it
    made = answer(question, sides(question, retrieval("What is queue?", [QUEUE]), missing), SECTION)
    assert made.text == 'queue: "A queue is a list of messages." [1]\n\nzorb: the documents do not cover this.'
    assert (made.grounded, made.reason, made.not_found) == (True, "partly_supported", ("zorb",))
    assert len(made.citations) == 1


def test_two_questions_are_answered_or_refused_each_by_itself() -> None:
    question = "How many days of paid leave do employees have? Who won the football world cup?"
    parts = (
        retrieval("How many days of paid leave do employees have?", HANDBOOK),
        retrieval("Who won the football world cup?", HANDBOOK, dense=0.02, features=WEAK),
    )
    made = answer(question, replace(parts[0], question=question, understood=Understood(parts=parts)), SECTION)
    assert made.text.startswith('1. "Employees have 28 days of paid leave a year." [1]')
    assert made.text.endswith('2. "Who won the football world cup?": the documents do not cover this.')
    assert made.not_found == ("Who won the football world cup?",)


def test_a_list_comes_from_structure_whole_and_counted() -> None:
    own = passage("kit", "Tools.", kind="module", title="module kit")
    outline = OutlineFound("kit", "module kit", "module", tuple(f"kit.f{n}" for n in range(35)), False, (own,))
    question = "Which functions does kit have?"
    made = answer(question, replace(retrieval(question, [own]), understood=Understood(outline=outline)), SECTION)
    assert made.text.startswith("kit has 35 functions: f0, f1, ")
    assert made.text.endswith("f29 and 5 more [1]")
    assert (made.grounded, made.form, made.citations[0].document) == (True, "list", "kit")


def test_a_summary_is_marked_and_quotes_the_document_s_own_words() -> None:
    own = passage(
        "t.md",
        "# Travel\n\nTrains are booked in second class. Flights need approval. More.",
        kind="file",
        title="Travel",
    )
    outline = OutlineFound("t.md", "Travel", "file", ("Expenses", "Per diem"), True, (own,))
    question = "Summarize the travel document"
    made = answer(question, replace(retrieval(question, [own]), understood=Understood(outline=outline)), SECTION)
    assert made.text == (
        'Summary of Travel (its own first sentences and headings): "Trains are booked in second class." '
        '"Flights need approval." [1]'
        " Sections: Expenses; Per diem [1]"
    )


def test_steps_are_quoted_whole() -> None:
    text = "To back up:\n\n1. Stop the broker.\n2. Copy the folder.\n3. Start it again.\n"
    question = "How do I back up the broker?"
    made = answer(question, retrieval(question, [passage("b.md", text, kind="file")]), SECTION)
    assert made.text == '"To back up:" [1]\n\n1. Stop the broker.\n2. Copy the folder.\n3. Start it again.'


def test_signature_and_example_where_the_question_asks_for_them() -> None:
    load = passage("kit.load", "Read a ledger.\n\n>>> kit.load('a')\n<Ledger>\n", title="kit.load(path)")
    asked = answer("Show me an example of kit.load", retrieval("Show me an example of kit.load", [load]), SECTION)
    assert ">>> kit.load('a')\n<Ledger>" in asked.text
    signed = answer(
        "What is the signature of kit.load?", retrieval("What is the signature of kit.load?", [load]), SECTION
    )
    assert "```\nkit.load(path)\n```" in signed.text
    plain = answer("How do I read a ledger?", retrieval("How do I read a ledger?", [load]), SECTION)
    assert "```" not in plain.text
    for question, said in (
        ("Give me an example of kit.save", True),
        ("How do I use kit.save?", False),
        ("What is the signature of kit.sample?", False),
        ("kit.save example", True),
    ):
        save = passage("kit.save", "Write a ledger.", title="kit.save(path)")
        made = answer(question, retrieval(question, [save]), SECTION)
        assert ("No example stands there." in made.text) == said


def test_an_alternative_is_quoted_to_the_end_of_a_clause_or_only_named() -> None:
    long = passage("kit.other", "Copy " + "very " * 30 + "much.", 0.95)
    clause = passage("kit.third", "Copy a tree of many files, then " + "do more and " * 12 + "end.", 0.94)
    made = answer(
        "How do I copy a directory tree?",
        retrieval("How do I copy a directory tree?", [COPYING[0], long, clause]),
        SECTION,
    )
    assert 'kit.third — "Copy a tree of many files, …" [2]' in made.text
    assert "kit.other [3]" in made.text
    assert "very" not in made.text


def test_a_heading_without_marks_is_no_answer() -> None:
    text = "Equipment of remote workers\n\nThe company provides a laptop and a headset.\n"
    question = "What equipment do remote workers get from the company?"
    found = retrieval(question, [passage("r.txt", text, kind="file")])
    assert answer(question, found, SECTION).text == '"The company provides a laptop and a headset." [1]'


def test_a_refusal_names_what_is_missing_and_the_nearest_documents_but_no_restricted_one() -> None:
    question = "How do I use kubernetes?"
    found = retrieval(
        question,
        [*HANDBOOK, replace(HANDBOOK[0], document="x", title="Secret", sensitivity="restricted")],
        dense=0.02,
        features=WEAK,
    )
    made = answer(question, replace(found, understood=Understood(unknown=("kubernetes",))), SECTION)
    assert made.text == f"{UNKNOWN} Not found: kubernetes. Closest: Leave policy; Travel."
    assert (made.grounded, made.closest, made.not_found) == (False, ("leave.md", "travel.md"), ("kubernetes",))


def test_a_language_the_search_was_not_made_for_is_named_or_answered_without_confidence() -> None:
    weak = retrieval("Wie viele Tage?", HANDBOOK, dense=0.02, features=WEAK)
    made = answer("Wie viele Tage?", replace(weak, understood=Understood(language="de")), SECTION)
    assert (made.grounded, made.reason) == (False, "unknown_language")
    assert "German" in made.text
    strong = retrieval("How many days of paid leave do employees have?", HANDBOOK)
    made = answer(strong.question, replace(strong, understood=Understood(language="de")), SECTION)
    assert made.grounded
    assert made.confidence <= 0.5


def test_the_date_of_a_document_with_editions_is_said() -> None:
    question = "How many days of paid leave do employees have?"
    found = replace(
        retrieval(question, HANDBOOK), understood=Understood(editions={"leave.md": ("2024-05-01", True, "leave.md")})
    )
    made = answer(question, found, SECTION)
    assert made.text.endswith("([1] is of 2024-05-01, the newest edition.)")


def test_what_was_searched_for_is_what_is_answered() -> None:
    typed = "How do I coppy a direcory tre?"
    found = replace(
        retrieval("How do I copy a directory tree?", COPYING), understood=Understood("How do I copy a directory tree?")
    )
    assert (
        answer(typed, found, SECTION).text == answer(found.question, retrieval(found.question, COPYING), SECTION).text
    )


@pytest.mark.parametrize("words", [12, 20, 60])
def test_understood_crosses_a_wire(words: int) -> None:
    part = retrieval("What is queue?", [QUEUE])
    outline = OutlineFound("q.md", "Queues", "file", ("A",), True, (QUEUE,))
    found = replace(part, understood=Understood("q", ("x",), "de", (part,), outline, {"q.md": ("2024", True, "q.md")}))
    assert Retrieval.from_dict(found.to_dict()) == found
    assert isinstance(found.sentences[0], ScoredSentence)
    assert answer("What is queue?", part, AnswerSection(max_words=words)).grounded
