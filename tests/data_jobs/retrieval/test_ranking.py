"""The closer look at code objects: what changes their order, and that sentences follow their passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cluster.core.records import Passage
from data_jobs.retrieval.ranking import ASKED, corrected, led
from data_jobs.retrieval.results import in_order
from tests.train_jobs.answering.retrievals import passage, retrieval

QUESTION = "How do I copy a file?"
LONG = "which question holds clearly more different content words"
OBJECTS = passage("copy.deepcopy", "Deep copy operation on arbitrary Python objects.")
FILES = passage("shutil.copyfile", "Copy data from one to another.")
FOLDER = passage("shutil.copytree", "Copy a directory and what is below it.")
PROSE = passage("guide.md", "To copy a file, press both keys.", kind="file")


def changes(question: str, passages: Sequence[Passage], best: Sequence[float]) -> list[float]:
    """What each passage's score changes by, given the cosines of its best sentence."""
    found = retrieval(question, passages)
    sentences = [replace(s, dense=best[s.passage]) for s in found.sentences]
    made: list[float] = (corrected(question, passages, sentences) - [p.score for p in passages]).tolist()
    return made


def test_a_sentence_that_answers_counts_beside_its_text() -> None:
    near, far = changes(LONG, (OBJECTS, passage("os.stat", "Text.")), (0.8, 0.1))
    assert near == pytest.approx(0.3 * (0.8 - 0.35))
    assert far == 0


def test_a_known_question_that_is_nearer_says_it_all() -> None:
    known = replace(OBJECTS, asked=0.95)
    assert changes(LONG, (known, FILES), (0.8, 0.1))[0] == pytest.approx(ASKED * 0.95)
    assert changes(LONG, (known, PROSE), (0.8, 0.1))[0] == 0, "beside prose that would favour code"


def test_the_class_or_module_of_most_of_what_was_found_counts() -> None:
    alone, one, other = changes(LONG, (OBJECTS, FILES, FOLDER), (0, 0, 0))
    assert alone == 0
    assert one == other == pytest.approx(0.1 / 3)


def test_what_a_short_question_asks_and_neither_name_nor_opening_says_counts_less() -> None:
    objects, files = changes(QUESTION, (OBJECTS, FILES), (0, 0))
    assert objects < 0 == files
    passages, _ = led(QUESTION, (OBJECTS, FILES), ())
    assert [p.document for p in passages] == ["shutil.copyfile", "copy.deepcopy"]


def test_one_comes_first_and_the_others_keep_their_order() -> None:
    found = retrieval(QUESTION, (OBJECTS, PROSE, replace(FOLDER, score=0.8), FILES))
    passages, before = led(QUESTION, found.passages, found.sentences)
    assert [p.document for p in passages] == ["shutil.copyfile", "copy.deepcopy", "guide.md", "shutil.copytree"]
    assert before == [3, 0, 1, 2]
    assert passages[0].score >= passages[1].score
    sentences = in_order(found.sentences, before)
    assert [s.passage for s in sentences] == sorted(s.passage for s in sentences)
    assert all(s.text in passages[s.passage].text for s in sentences)


def test_nothing_found_has_no_first() -> None:
    assert led(QUESTION, (), ()) == ([], [])


def test_prose_keeps_its_score() -> None:
    assert changes(QUESTION, (PROSE, OBJECTS), (0.9, 0.9))[0] == 0


@pytest.mark.parametrize("question", ["", "?", "a" * 5000, "the of", "日本語"])
def test_odd_questions_have_finite_scores(question: str) -> None:
    found = retrieval(question, (OBJECTS, PROSE))
    assert np.isfinite(corrected(question, found.passages, found.sentences)).all()
    assert corrected(question, (), ()).shape == (0,)
