# ruff: noqa: E501 (a table)
"""Thanks, greetings and calls for help are told from questions."""

from __future__ import annotations

import pytest

from train_jobs.answering.courtesies import courtesy_of, help_text


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Thanks!", "thanks"), ("thank you so much :)", "thanks"), ("Great, thanks", "thanks"), ("Danke schön!", "thanks"),
        ("merci beaucoup", "thanks"), ("谢谢", "thanks"), ("hi", "greeting"), ("Hello there!", "greeting"),
        ("Guten Morgen", "greeting"), ("¡Hola!", "greeting"), ("Bonjour !", "greeting"), ("bye", "farewell"),
        ("help", "help"), ("What can you do?", "help"), ("Hi, what can I ask you?", "help"), ("Was kannst du?", "help"),
    ],
)  # fmt: skip
def test_whole_messages_are_courtesies(message: str, kind: str) -> None:
    assert courtesy_of(message) == kind


@pytest.mark.parametrize(
    "message",
    [
        "Thanks, and how do I undo it?",
        "hi, how do I copy a file?",
        "help me copy a file",
        "great expectations",
        "How do I say thanks in a mail?",
        "thank you note template",
        "hello world in C",
        "OK?",
        "Nice?",
        "--help",
        "hi.hello",
        "",
        "?",
        "thanks " * 60,
    ],
)
def test_a_question_is_none(message: str) -> None:
    assert courtesy_of(message) == ""


def test_help_says_what_there_is_and_nothing_where_there_is_nothing() -> None:
    said = help_text(["Leave policy", "Travel"], ["How many days?"])
    assert "Leave policy; Travel" in said
    assert said.endswith("- How many days?")
    assert "cover:" not in help_text([], [])
