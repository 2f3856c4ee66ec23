"""Normalisation: what goes, what stays, and that doing it twice changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_jobs.text.normalise import has_invisible, normalise, strip_invisible

CODE = "def f(x):\n\tif x:\n        return 'it’s “ok” & ﬁne'\n\n\n    # ↑ two blank lines\n"


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("cafe\u0301", "café"),
        ("a\r\nb\rc\u2028d\x0be", "a\nb\nc\nd\ne"),
        ("a \t\nb  ", "a\nb"),
        ("\n\na\n\n", "a"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("a\x00b\x07c\x7f", "abc"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("GÃ¼nther hÃ¤tte", "Günther hätte"),
        ("itâ€™s", "it’s"),
        ("a\u200bb\u2060c\ufeffd", "abcd"),
        ("abc\u202edef\u2066", "abcdef"),
        ("hi\U000e0049\U000e0067", "hi"),
        ("\ud800x", "\ufffdx"),
        ("soft\u00adhyphen", "softhyphen"),
    ],
)
def test_what_is_cleaned(given_text: str, expected: str) -> None:
    assert normalise(given_text) == expected


@pytest.mark.parametrize(
    "text",
    [
        CODE.rstrip("\n"),
        "می\u200cخواهم",
        "क्\u200dष",
        "👩\u200d💻 and ❤\ufe0f",
        "“quotes” ‘stay’ … – —",
        "ＦＵＬＬ ﬁ ½ &amp; <b>",
        "naïve Ã la carte",
        "表\u3000意",
        "x = 1  # ünïcödé",
        "a\u00a0b",
        "\tindented",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert normalise(text) == text


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters() | st.sampled_from("Ã©â€™\u200b\u200d\r\n \t\x1b[\x85\ud800"), max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert not has_invisible(once)
    once.encode("utf-8")


def test_strip_invisible_keeps_tab_and_newline() -> None:
    assert strip_invisible("a\tb\nc\u200d") == "a\tb\nc"
