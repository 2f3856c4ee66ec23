"""The windows that a reader sees of a search's result, and how a pair becomes tokens."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.core.records import Passage
from data_jobs.retrieval.reader import MAX_WINDOWS, WINDOW_CHARS, load_reader, windows
from data_jobs.retrieval.reading import SHIPPED_FOLDER, Limits, Window, about_of, best_span, encode
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.text.units import ROW, TITLE

START = 1000  # where every passage begins in its document


def retrieval(*passages: list[tuple[str, float]], context: str = "", kind: str = "sentence") -> Retrieval:
    """A result with passages of sentences and their cosines."""
    made, scored = [], []
    for number, sentences in enumerate(passages):
        text, at = " ".join(said for said, _ in sentences), START
        for said, dense in sentences:
            scored.append(ScoredSentence(number, at, at + len(said), said, dense, 0.0, kind, "| a | b |"))
            at += len(said) + 1
        made.append(
            Passage(f"c{number}", f"d{number}", f"T{number}", "", text, START, START + len(text), 1.0, context=context)
        )
    return Retrieval("q", tuple(made), tuple(scored))


def long(name: str, dense: float) -> tuple[str, float]:
    return name + " word" * 30 + ".", dense


def test_a_window_is_the_best_sentence_with_its_neighbours_and_a_piece_of_the_document() -> None:
    found = retrieval(
        [long("far", 0.1), ("Before it.", 0.2), ("The best one.", 0.9), ("After it.", 0.1), long("z", 0.1)]
    )
    (window, *others) = windows(found, 1)
    assert not others
    assert "Before it. The best one. After it." in window.text
    assert len(window.text) <= WINDOW_CHARS
    passage = found.passages[0]
    assert passage.text[window.start - START :].startswith(window.text)


def test_the_windows_lie_around_the_best_sentences_wherever_they_are() -> None:
    best = [long(f"s{n}", 0.9 - n / 100) for n in range(3)]
    found = retrieval(*[[long(f"p{n}", 0.5)] for n in range(3)], best, *[[long(f"r{n}", 0.1)] for n in range(4)])
    assert [window.passage for window in windows(found)] == [3] * MAX_WINDOWS
    made = windows(found, 5)
    assert [window.passage for window in made] == [0, 1, 3, 3, 3], "of equal sentences those of better passages"
    assert len({(window.passage, window.start) for window in made}) == len(made)


def test_a_sentence_is_in_one_window_only_and_headings_are_no_centre() -> None:
    found = retrieval([("One thing.", 0.5), ("Another thing.", 0.6)])
    assert [window.text for window in windows(found)] == ["One thing. Another thing."]
    assert windows(retrieval([("Heading", 0.9)], kind=TITLE))[0].text == "Heading"  # nothing else is there
    assert windows(Retrieval("q")) == []


def test_a_title_says_document_section_and_columns() -> None:
    assert windows(retrieval([("x y.", 0.5)], context="T0\nPart > Chapter"))[0].title == "T0 | Chapter"
    assert windows(retrieval([("1 | 2", 0.5)], kind=ROW))[0].title == "T0 | a b"


def test_a_pair_becomes_tokens_that_know_their_side_and_what_is_shared() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "built", "it", "ship", "ada", "the"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pair = encode(tokenizer, "who built it", "the ship", "ada built the ship", Limits(3, 2, 11))
    assert pair.ids == [2, 4, 5, 6, 3, 9, 7, 3, 8, 5, 3]  # the text is cut, its end is marked
    assert pair.types == [0, 0, 2, 0, 0, 1, 1, 1, 1, 3, 1]
    assert (pair.text, pair.offsets) == (8, [(0, 3), (4, 9)])
    assert best_span(np.array([-5.0, 5.0, 1.0]), np.array([9.0, 0.0, 2.0])) == (1, 2)  # it never ends before it begins


@pytest.mark.process
def test_the_shipped_reader_tells_answered_from_related() -> None:
    reader = load_reader(threads=1)
    assert reader is not None
    text = "The library is open from 9 am to 5 pm. The owner of the library is Clara Haas."
    questions = ("Who owns the library?", "Who owns the bridge?", "How many employees does the library have?")
    own, other, lacks = (reader.read(question, [Window("Library", text)])[0] for question in questions)
    assert own.answerable > 0.5 > max(other.answerable, lacks.answerable)
    assert "Clara Haas" in text[own.start : own.end]
    alone = reader.read(questions[0], [Window("Library", text), Window("A much longer title of it", text * 2)])[0]
    assert alone.answerable == pytest.approx(own.answerable, abs=0.1)  # its company hardly matters
    assert reader.read(questions[0], []) == []
    (empty,) = reader.read("Who?", [Window("", " ")])
    assert (empty.start, empty.end) == (0, 0)
    about = about_of(SHIPPED_FOLDER)
    assert about["licence"] == "CC-BY-SA-4.0"
    assert sum(path.stat().st_size for path in SHIPPED_FOLDER.iterdir()) <= 25e6
