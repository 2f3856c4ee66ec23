"""Which fact a question asks for, and whether a text has anything of the kind."""

from __future__ import annotations

import pytest

from data_jobs.retrieval.facts_asked import (
    EXTENT,
    NUMBER,
    OFTEN,
    OTHER,
    PRICE,
    TIME,
    fact_asked,
    may_tell,
    told_at_once,
)

ASKED = {
    TIME: ("When was the library built?", "in which year did she retire", "Until when can I cancel for free?",
           "What time does the kitchen close?", "Could you tell me when the pool opens?", "When's the next ferry?"),
    EXTENT: ("How long is the slipway?", "For how long is a quotation valid?", "How far is the station?"),
    OFTEN: ("How often does the agent look for changes?",),
    NUMBER: ("How many seats does it have?", "To what temperature are plates preheated?", "How old is the oak?",
             "What is the height of the tower?", "Which port does the agent listen on?"),
    PRICE: ("What does a sailing lesson cost?", "How much is a ticket?", "What do guests pay for a court?",
            "What is the entrance fee?"),
    OTHER: ("Who owns the dredger?", "Where do copies go?", "What is the name of the ferry's captain?",
            "Which wine goes with the salmon?", "The former speaker is whom?", "In which town was she built?"),
}  # fmt: skip
NOT = (
    "How do I define a class?", "What is a trait object?", "What is baggage good for?", "Why is pyrite yellow?",
    "What's the best way to get the extension of a path?", "What is the difference between a list and a tuple?",
    "When should code panic instead of returning an error?", "Can I borrow a wheelchair?", "delete a file",
    "What happens when an integer overflows?", "Which functions does the module shutil have?", "", "?",
    "How does talc feel?", "What can I do in an unsafe block?", "Summarise the handbook.",
    "When " + "very " * 50 + "long messages end?",
)  # fmt: skip


@pytest.mark.parametrize(("kind", "question"), [(kind, q) for kind, asked in ASKED.items() for q in asked])
def test_questions_for_a_fact(kind: str, question: str) -> None:
    assert fact_asked(question) == kind


@pytest.mark.parametrize("question", NOT)
def test_other_questions(question: str) -> None:
    assert fact_asked(question) == ""


@pytest.mark.parametrize("question", [
    "Who owns the dredger?", "Why is pyrite yellow?", "Can I borrow a wheelchair?", "hi, is there an installer?",
    "What happens when an integer overflows?", "May I eat before giving blood?", "opening hours on Sunday?",
    "Does the ferry take bicycles", "What did the guild decide?",
])  # fmt: skip
def test_a_few_sentences_tell_it(question: str) -> None:
    assert told_at_once(question)


@pytest.mark.parametrize("question", [
    "How do I define a class?", "how to copy a tree", "How does the pump work?",
    "Please, how can we froth milk?", "What is a trait object?",
    "What's the best way to get the extension of a path?", "What is the difference between a list and a tuple?", "",
    "Which functions does the module shutil have?", "Summarise the handbook.", "delete a file", "ferries to Oslo",
    "Vitamin D lowers the risk of falls.", "Is it " + "very " * 50 + "long?",
])  # fmt: skip
def test_what_is_told_at_length_or_not_asked(question: str) -> None:
    assert not told_at_once(question)


@pytest.mark.parametrize(
    ("kind", "has", "lacks"),
    [
        (TIME, "It was launched in 1987.", "It has 220 horsepower."),
        (TIME, "They are ready after three weeks.", "The wall is 13 metres high."),
        (EXTENT, "The hall is 40 metres long.", "It serves boats below 200 tonnes."),
        (EXTENT, "Breakfast is served from seven to half past ten.", "Breakfast is served in the hall."),
        (OFTEN, "It looks for changes every minute.", "It looks for changes."),
        (NUMBER, "There are twelve seats.", "There are chairs and tables."),
        (PRICE, "A day costs 15 euros.", "Buy a key from the company."),
        (PRICE, "Entry is free.", "The garage has 20 places."),
    ],
)
def test_a_text_has_something_of_the_kind(kind: str, has: str, lacks: str) -> None:
    assert may_tell(kind, has)
    assert not may_tell(kind, lacks)
    assert may_tell(OTHER, has)
    assert may_tell(OTHER, lacks)
