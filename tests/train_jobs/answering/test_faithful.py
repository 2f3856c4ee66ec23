"""A sentence is its source with phrases left out, or it is none of its source's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train_jobs.answering.faithful import faithful

LIBRARY = "The town library was built in 1911 by Andrew Carnegie."


@pytest.mark.parametrize(
    ("sentence", "source", "heading"),
    [
        (LIBRARY, LIBRARY, ""),
        ("The town library was built in 1911.", LIBRARY, ""),
        ("The town library is built.", LIBRARY, ""),
        ("Library was built in 1911", "It was built in 1911, by Carnegie.", "Library"),
        ("The Town Library was built by Carnegie.", "It was built in 1911, by Carnegie.", "Town library"),
        ("Alice married Dan.", "Alice, who met Bob, married Dan.", ""),
        ("The ship has 20 cabins and 300 seats.", "The ship has 20 cabins and 300 seats (for crew).", ""),
        (
            "shutil.copytree recursively copies a directory tree.",
            "Recursively copy a directory tree.",
            "shutil.copytree",
        ),
        ("A room costs $5 per night.", "A room costs $5 per night in winter.", ""),
    ],
)
def test_what_leaves_phrases_out_is_faithful(sentence: str, source: str, heading: str) -> None:
    assert faithful(sentence, source, heading)


@pytest.mark.parametrize(
    ("sentence", "source", "heading"),
    [
        ("The town library was built in 1912.", LIBRARY, ""),  # another number
        ("The town library was built in 1911 by Carnegies.", LIBRARY, ""),  # another name
        ("The town library was sold in 1911.", LIBRARY, ""),  # another deed
        ("The town school was built in 1911.", LIBRARY, ""),
        ("Carnegie sued Morgan.", "Morgan sued Carnegie.", ""),
        ("Alice married Dan.", "Alice met Bob and Carol married Dan.", ""),  # another doer
        ("Alice married Dan.", "Bob dreamt that Alice married Dan.", ""),  # said by somebody
        ("Morgan built the library.", "In 1911 Carnegie built the library.", "Morgan"),
        ("The ship has 20 seats.", "The ship has 20 cabins and 300 seats.", ""),
        ("Cats sleep.", "Cats do not sleep.", ""),
        ("Cats sleep.", "Cats don't sleep.", ""),
        ("Cats don't sleep.", "Cats sleep.", ""),
        ("The pool is open.", "The pool is open, except on Mondays.", ""),
        ("Employees have 28 days of leave.", "Employees have at least 28 days of leave.", ""),
        ("Employees have five days.", "Employees have at most five days.", ""),
        ("A room costs 5 per night.", "A room costs $5 per night.", ""),
        ("A room costs 5 €.", "A room costs 5 $.", ""),
        ("It was 5 degrees.", "It was -5 degrees.", ""),
        ("The rate is 5.", "The rate is 5%.", ""),
        ("x < y", "x > y", ""),
        ("It was moved to Paris from London.", "It was moved from Paris to London.", ""),
        ("They shot Bob.", "They shot at Bob.", ""),
        ("It was paid for Bob.", "It was paid by Bob.", ""),
        ("May built it.", "The wall was built.", ""),  # a name that is a common word
        ("IT is used.", "It is used.", ""),
        ("Library.", "It was built in 1911.", "Library"),  # a heading says nothing
        ("", LIBRARY, ""),
        ("... !", LIBRARY, ""),
        ("图书馆建于 1912 年。", "图书馆建于 1911 年。", ""),
        ("Die Bücherei wurde 1911 gebaut.", LIBRARY, ""),
    ],
)
def test_what_says_anything_else_is_not(sentence: str, source: str, heading: str) -> None:
    assert not faithful(sentence, source, heading)


WORDS = st.sampled_from(
    """the was in by library Carnegie Morgan 1911 1912 built sold not only least 20 $20 5% -3 x.y() C++ U.S. Müller 3,5
    東京 ٣ , ( ) . ; — if never and Dr. it He""".split()  # noqa: SIM905
)

WORD = re.compile(r"[^\s,();—]+?(?=\.?(?:[\s,();—]|$))")


@settings(max_examples=30, deadline=None)
@given(st.lists(WORDS, max_size=10), st.lists(WORDS, max_size=14), st.lists(WORDS, max_size=3))
def test_no_number_and_no_name_comes_from_nowhere(said: list[str], source: list[str], heading: list[str]) -> None:
    sentence, held = " ".join(said), " ".join((*heading, *source))
    if not faithful(sentence, " ".join(source), " ".join(heading)):
        return
    known, free = WORD.findall(held.lower()), {"the", "was", "in", "it", "and"}
    assert [word for word in WORD.findall(sentence.lower()) if word not in free and word not in known] == []


@settings(max_examples=30, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=14))
def test_a_source_is_faithful_to_itself(source: list[str]) -> None:
    text = " ".join(["Library", *source])
    assert faithful(text, text)
