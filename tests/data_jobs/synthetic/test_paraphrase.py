"""Paraphrases: other words, the same statement; whatever touches a number, a name or a negation is caught."""

from __future__ import annotations

import pytest

from data_jobs.synthetic.paraphrase import RULES, clause_order, faithful, paraphrases, phrase


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("If the pump runs dry, stop the engine.", "Stop the engine if the pump runs dry."),
        ("When a span has ended, its attributes are fixed.", "Its attributes are fixed when a span has ended."),
        ("To start the collector, run the binary.", "Run the binary to start the collector."),
        ("Close the sea cock before you open the housing.", "Before you open the housing, close the sea cock."),
        ("PDF files are read if they hold text.", "If they hold text, PDF files are read."),
        ("The best way to do it is if you plan ahead.", None),  # what is left would be no clause
        ("The collector receives spans.", None),
        ("Do it, if you can, and tell us (before noon).", None),
    ],
)
def test_clauses_change_places(text: str, said: str | None) -> None:
    assert clause_order(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("You can attend in person.", "It is possible to attend in person."),
        ("It is possible to attend.", "You can attend."),
        ("The tool provides multiple views instead of one.", "The tool offers several views rather than one."),
        ("Each of them is red.", None),
        ("Each pump is red.", "Every pump is red."),
        ("Nothing to say here.", None),
    ],
)
def test_set_phrases_are_exchanged(text: str, said: str | None) -> None:
    assert phrase(text) == said


@pytest.mark.parametrize(
    ("original", "said", "reason"),
    [
        ("Use at least 3 pumps.", "Use no less than 3 pumps.", None),
        ("Use 3 pumps.", "use  3 pumps.", "unchanged"),
        ("Use 3 pumps now.", "Use 4 pumps now.", "numbers_changed"),
        ("Call os.path for the pump now.", "Call os.pathsep for the pump now.", "names_changed"),
        ("The pump is not dry.", "The pump isn't dry.", None),
        ("The pump is not dry.", "The pump is dry today.", "negation_changed"),
        ("Red pumps leak water.", "Blue boats lose oil.", "meaning_changed"),
    ],
)
def test_unfaithful_wordings_are_named(original: str, said: str, reason: str | None) -> None:
    assert faithful(original, said) == reason


def test_every_rule_says_its_name_and_line_breaks_become_spaces() -> None:
    found = dict(paraphrases("If you need to\n  stop, you can press the button."))
    assert tuple(found) == RULES
    assert all("\n" not in said for said in found.values())
    assert list(paraphrases("")) == []
