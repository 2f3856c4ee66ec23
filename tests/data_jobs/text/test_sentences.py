"""Sentence spans: where rules must cut, where they must not, and exact offsets on any text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_jobs.text.sentences import sentences


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Use e.g. a list, i.e. a sequence. Then stop.", ["Use e.g. a list, i.e. a sequence.", "Then stop."]),
        ("Dr. Smith met J. Doe. They talked.", ["Dr. Smith met J. Doe.", "They talked."]),
        ("Call os.path.join(a, b). It joins.", ["Call os.path.join(a, b).", "It joins."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("Version 3.11 is out. Get it.", ["Version 3.11 is out.", "Get it."]),
        ("A title\n\nA paragraph\nover two lines.", ["A title", "A paragraph\nover two lines."]),
        ("Items:\n- first\n- second", ["Items:", "- first", "- second"]),
        ("1. first\n2. second", ["1. first", "2. second"]),
        ("Text\n>>> f(1)\n2", ["Text", ">>> f(1)\n2"]),
        ("これは文です。次の文です。", ["これは文です。", "次の文です。"]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_cuts_where_a_reader_would(text: str, expected: list[str]) -> None:
    assert split(text) == expected


@given(st.text(alphabet=st.sampled_from("ab AB.!?\n\t-*#1`。é=>:"), max_size=200))
def test_spans_are_ordered_trimmed_and_lose_only_white_space(text: str) -> None:
    spans = list(sentences(text))
    assert all(text[s:e] == text[s:e].strip() != "" for s, e in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert "".join("".join(text[s:e].split()) for s, e in spans) == "".join(text.split())


def test_a_part_of_a_text_keeps_the_texts_offsets() -> None:
    text = "First one. Second one. Third one."
    assert [text[s:e] for s, e in sentences(text, 11, 22)] == ["Second one."]
