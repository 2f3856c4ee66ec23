"""What people see as one character: kept by normalising, never cut by chunking, counted as their language counts."""

from __future__ import annotations

import pytest
import regex

from cluster.core.records import Document
from data_jobs.text.chunks import chunk
from data_jobs.text.normalise import has_invisible, normalise
from data_jobs.text.scripts import words

SEEN = {
    "ideographic variant": "\u845b\U000e0100\u57ce",
    "emoji sequences": "\U0001f468\U0001f3fd\u200d\U0001f680",
    "a heart among them": "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f468",
    "two symbols in one": "\u26d3\ufe0f\u200d\U0001f4a5",
    "flag of a region": "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f ok",
    "text instead of emoji": "\u260e\ufe0e 1\ufe0f\u20e3",
    "Persian non-joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi joiner": "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",
    "Sinhala joiner": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
    "Javanese joiner": "\ua98f\ua9c0\u200d\ua9b1",
}
HIDDEN = {
    "zero width space in a word": ("he\u200bllo", "hello"),
    "bidirectional override": ("a\u202eb", "ab"),
    "tags outside of a flag": ("x\U000e0041\U000e0042", "x"),
    "more tags than a flag has": ("\U0001f3f4" + "\U000e0069" * 9 + "\U000e007f", "\U0001f3f4"),
    "selectors after a letter": ("word\U000e0100\ufe00", "word"),
    "a run of selectors": ("\u845b\U000e0100\U000e0101\U000e0102", "\u845b\U000e0100"),
    "joiner between Latin letters": ("a\u200db", "ab"),
}


@pytest.mark.parametrize("text", SEEN.values(), ids=SEEN.keys())
def test_what_shows_survives(text: str) -> None:
    assert normalise(text) == text
    assert not has_invisible(text)


@pytest.mark.parametrize(("text", "shown"), HIDDEN.values(), ids=HIDDEN.keys())
def test_what_hides_goes(text: str, shown: str) -> None:
    assert normalise(text) == shown
    assert has_invisible(text)


@pytest.mark.parametrize("budget", [20, 21, 22, 23, 37])
@pytest.mark.parametrize(
    "character",
    [
        "\U0001f469\U0001f3fd\u200d\U0001f680",
        "e\u0301\u0323",
        "\u0e19\u0e49\u0e33",
        "\U0001f1e9\U0001f1ea",
        "\u0915\u094d\u0937\u093f",
    ],
)
def test_chunks_begin_and_end_between_characters(character: str, budget: int) -> None:
    text = "a" + character * 300
    places = {0, *(found.end() for found in regex.finditer(r"\X", text))}
    chunks = chunk(Document("a", "", text, "a"), len, budget)
    assert len(chunks) > 5
    assert "".join(piece.text for piece in chunks) == text
    assert {place for piece in chunks for place in (piece.start, piece.end)} <= places


def test_words_of_scripts_with_and_without_blanks() -> None:
    assert words("The pump P1") == ["The", "pump", "P1"]
    assert words("泵 P1压力") == ["泵", "P1", "压", "力"]
    assert words("น้ำดี") == ["น้ำ", "ดี"]
    assert words("높은 압력") == ["높은", "압력"]
