"""The form of a question, told by its wording; messages that ask several things."""

from __future__ import annotations

import pytest

from data_jobs.retrieval.asking import (
    COMPARISON,
    DEFINITION,
    LIST,
    PLAIN,
    SIGNATURE,
    STEPS,
    SUMMARY,
    TWO,
    YES_NO,
    form_of,
    questions_in,
)


@pytest.mark.parametrize(
    ("question", "one", "other"),
    [
        ("What is the difference between a queue and a stream?", "queue", "stream"),
        ("json.load vs json.loads", "json.load", "json.loads"),
        ("Can you tell me the difference between annual leave and sick leave?", "annual leave", "sick leave"),
        ("How does the Basic plan differ from the Pro plan?", "Basic plan", "Pro plan"),
        ("Compare mulch with compost.", "mulch", "compost"),
        ("Which is faster, a list or a deque?", "list", "deque"),
    ],
)
def test_a_comparison_has_two_sides(question: str, one: str, other: str) -> None:
    form = form_of(question)
    assert (form.name, form.subject, form.other) == (COMPARISON, one, other)


@pytest.mark.parametrize(
    ("question", "name", "subject"),
    [
        ("Which functions does shutil have?", LIST, "shutil"),
        ("List all the methods of json.JSONDecoder", LIST, "json.JSONDecoder"),
        ("What sections does the travel policy have?", LIST, "travel policy"),
        ("Which platforms are supported?", LIST, ""),
        ("Summarize the backup guide", SUMMARY, "backup guide"),
        ("What is PEP 572 about?", SUMMARY, "PEP 572"),
        ("Please give me an overview of the shutil module.", SUMMARY, "shutil module"),
        ("What is a span?", DEFINITION, "span"),
        ("What does idempotent mean?", DEFINITION, "idempotent"),
        ("What is the signature of shutil.copy()?", SIGNATURE, "shutil.copy"),
        ("What arguments does os.walk take?", SIGNATURE, "os.walk"),
        ("Are visitors allowed?", YES_NO, ""),
        ("How do I create a backup?", STEPS, ""),
        ("the capital of France", PLAIN, ""),
        ("Why is the sky blue?", PLAIN, ""),
        ("What is the largest planet?", DEFINITION, "largest planet"),
    ],
)
def test_the_form_and_what_it_is_asked_of(question: str, name: str, subject: str) -> None:
    assert (form_of(question).name, form_of(question).subject) == (name, subject)


def test_two_questions_are_two_and_one_that_leans_stays_with_its_question() -> None:
    both = "How do I open a zip file and how do I delete a directory?"
    assert questions_in(both) == ["How do I open a zip file", "how do I delete a directory?"]
    assert form_of(both).name == TWO
    for one in (
        "How do I open a file and how do I close it?",
        "How do I copy a folder? and in reverse?",
        "How do I copy and move files?",
        "I have two lists. How do I join them?",
        "What is the difference between read and write? Thanks!",
    ):
        assert questions_in(one) == [one]


@pytest.mark.parametrize(
    "one",
    [
        "How do I know what is installed and what is not?",
        "What does the policy say about who may travel and who may not?",
        "How do I configure what is logged and where the logs go?",
        "Do you know what and where the files are?",
        "Explain how and when to use queues",
    ],
)
def test_an_and_within_a_question_does_not_end_it(one: str) -> None:
    assert questions_in(one) == [one]


@pytest.mark.parametrize(
    "question",
    [
        "What is the difference between black and white photography and colour photography?",
        "Compare the pros and cons of A and B",
        "What is the difference between versions 1 and 2 of the protocol?",
        "What colour, if any, is it or not?",
        "What is the difference between before and after?",
    ],
)
def test_where_a_side_ends_is_not_guessed(question: str) -> None:
    assert form_of(question).name != COMPARISON


def test_a_name_may_hold_an_and() -> None:
    form = form_of("Compare Marks and Spencer with Tesco")
    assert (form.subject, form.other) == ("Marks and Spencer", "Tesco")


def test_long_messages_are_not_guessed_at() -> None:
    assert form_of("What is a span? " * 60).name == PLAIN
