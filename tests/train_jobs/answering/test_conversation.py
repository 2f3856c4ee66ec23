"""Which messages stand alone, and what the search question of a conversation is."""

from __future__ import annotations

import time

import pytest

from train_jobs.answering.conversation import leans_on_before, numbered, standalone_question

FIRST = "How do I compress a file?"


@pytest.mark.parametrize(
    "follow_up",
    [
        "and in reverse?",
        "what about gzip?",
        "how do I do it recursively?",
        "why?",
        "recursively?",
        "with gzip",
        "Can this be done with threads?",
        "but without the extension",
        "How do they work?",
    ],
)
def test_follow_ups_are_joined_with_the_question_before(follow_up: str) -> None:
    messages = [("user", FIRST), ("assistant", "gzip.compress [1]"), ("user", follow_up)]
    assert standalone_question(messages) == f"{FIRST} {follow_up}"


@pytest.mark.parametrize(
    "question",
    [
        "What is gzip?",
        "os.path.join",
        "How do I check that a file exists?",
        "Is it possible to copy a folder?",
        "I have a list; how do I sort it?",
        "What is the best way to sort a list of tuples by the second one?",
        "thanks!",
        "How do I read one line of a file?",
        "Now that we have a list of names and ages, how would I write all of it to a CSV file with a header row?",
    ],
)
def test_whole_questions_stay_as_they_are(question: str) -> None:
    assert not leans_on_before(question)
    assert standalone_question([("user", FIRST), ("assistant", "..."), ("user", question)]) == question


def test_system_and_assistant_messages_are_not_searched_for() -> None:
    messages = [("system", "You love zebras."), ("user", FIRST), ("assistant", "Use zebra.compress."), ("user", "why?")]
    assert standalone_question(messages) == f"{FIRST} why?"


def test_a_chain_of_follow_ups_goes_back_to_its_question() -> None:
    messages = [
        ("user", "Who wrote Faust?"),
        ("user", FIRST),
        ("user", "and in reverse?"),
        ("user", "what about bzip2?"),
    ]
    assert standalone_question(messages) == f"{FIRST} and in reverse? what about bzip2?"


def test_a_first_message_is_never_joined_and_nothing_said_is_nothing() -> None:
    assert standalone_question([("user", "and in reverse?")]) == "and in reverse?"
    assert standalone_question([("system", "Be kind."), ("user", "   ")]) == ""
    assert standalone_question([]) == ""


NAMED = 'shutil.copytree — "Recursively copy." [1] See also shutil.copy2 — "Copy data." [2] os.walk [3]'
REFUSED = "I do not know: the documents do not cover this. Closest: Travel."


@pytest.mark.parametrize(
    ("follow_up", "question"),
    [
        ("Does the second one keep metadata?", "Does shutil.copy2 keep metadata?"),
        ("Tell me more about [3]", "Tell me more about os.walk"),
        ("and only .txt?", f"{FIRST} and only .txt?"),
        ("Give me an example.", f"{FIRST} Give me an example."),
        ("only directories?", f"{FIRST} only directories?"),
        ("und mit gzip?", f"{FIRST} und mit gzip?"),
        ("What about the fifth one?", f"{FIRST} What about the fifth one?"),  # there is no fifth
        ("What is the second argument of os.walk?", "What is the second argument of os.walk?"),
    ],
)
def test_a_reference_keeps_the_subject(follow_up: str, question: str) -> None:
    assert standalone_question([("user", FIRST), ("assistant", NAMED), ("user", follow_up)]) == question


@pytest.mark.parametrize(
    ("before", "follow_up", "question"),
    [
        ("What is a queue?", "What are its limits?", "What are queue limits?"),
        ("How do I create a backup?", "And how do I restore it?", "And how do I restore a backup?"),
        ("How do I create a backup?", "How do I do it at night?", "How do I create a backup? How do I do it at night?"),
        ("What is a queue?", "Why is it?", "What is a queue? Why is it?"),
    ],
)
def test_a_pronoun_becomes_what_the_question_before_was_about(before: str, follow_up: str, question: str) -> None:
    assert standalone_question([("user", before), ("assistant", '"..." [1]'), ("user", follow_up)]) == question


def test_what_was_refused_or_was_no_question_is_no_subject() -> None:
    asked = [("user", FIRST), ("assistant", NAMED)]
    refused = [("user", "Who is the pope?"), ("assistant", REFUSED)]
    thanks = [("user", "Thanks!"), ("assistant", "You are welcome.")]
    for between in (refused, thanks, [*refused, *thanks]):
        assert standalone_question([*asked, *between, ("user", "and in reverse?")]) == f"{FIRST} and in reverse?"
    assert standalone_question([*refused, ("user", "and in reverse?")]) == "and in reverse?"


@pytest.mark.parametrize("piece", ["a", "a_", "x.", "a.b"])
def test_a_reply_is_read_in_linear_time(piece: str) -> None:
    began = time.process_time()
    assert numbered(piece * 20_000 + '! kit.load — "Loads." [2]') == {2: "kit.load"}
    assert time.process_time() - began < 2
