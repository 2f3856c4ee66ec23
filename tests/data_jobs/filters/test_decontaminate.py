"""Decontamination: planted items are found whatever stands around them, neighbours are not, and settings are pinned."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.errors import BadInputError
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.filters.decontaminate import NGRAM, EvaluationSets, evaluation_sets, pinned

LONG = "Which of the seven bridges over the river was closed to all traffic after the great flood of that spring?"
SHORT = "What is the capital of France?"
FILLER = [f"filler{i}" for i in range(200)]


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([LONG, SHORT]))
def test_planted_items_are_found_anywhere(chance: random.Random, item: str) -> None:
    sets = EvaluationSets({"quiz": [["nothing of this kind stands in any text at all"], [item]]})
    at = chance.randrange(len(FILLER))
    document = " ".join([*FILLER[:at], item.upper().replace(" ", " ,\n"), *FILLER[at:]])
    found = sets.overlap(document)
    assert found is not None
    assert (found.evaluation, found.item, found.item_share) == ("quiz", 1, 1.0)
    assert found.document_share == pytest.approx(len(item.split()) / (200 + len(item.split())), abs=1e-4)


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not() -> None:
    sets = EvaluationSets({"quiz": [[LONG]]})
    words = LONG.split()
    found = sets.overlap(" ".join(["x", *words[3 : 3 + NGRAM], "y"]))
    assert found is not None
    assert found.item_share == pytest.approx(1 / (len(words) - NGRAM + 1), abs=1e-4)
    assert sets.overlap(" ".join(["x", *words[3 : 2 + NGRAM], "y"])) is None
    assert sets.overlap(" ".join(sorted(words))) is None


def test_texts_too_short_to_tell_are_counted_and_not_looked_for() -> None:
    sets = EvaluationSets({"quiz": [["yes of course"], [SHORT]]})
    assert sets.too_short == 1
    assert sets.overlap("yes of course " * 10) is None
    assert sets.overlap("What is the capital of Germany?") is None


def test_of_several_items_the_one_most_of_which_is_there_is_named() -> None:
    sets = EvaluationSets({"b": [[LONG + " It was the oldest one."]], "a": [[LONG]]})
    found = sets.overlap(LONG)
    assert found is not None
    assert (found.evaluation, found.item_share, found.document_share) == ("a", 1.0, 1.0)


def test_many_items_cost_no_more_per_document() -> None:
    chance = random.Random(3)
    words = [f"w{i}" for i in range(3000)]
    sets = EvaluationSets({"big": [[" ".join(chance.choices(words, k=20))] for _ in range(2000)]})
    assert sets.overlap(" ".join(chance.choices(words, k=20_000))) is None


def test_sets_are_pinned_by_content_and_read_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    rows = [{"question": LONG, "answers": ["a", "b"], "answer": ["one two three four five six"]}, {"other": 1}]
    (tmp_path / "quiz.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "lines.txt").write_text(SHORT + "\n\nA second line that has quite enough words\n")
    section = DataSection(decontaminate=(str(tmp_path / "quiz.jsonl"), str(tmp_path / "lines.txt")))
    fixed = pinned(section, store)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "quiz.jsonl").rename(tmp_path / "elsewhere/quiz.jsonl")
    moved = section.model_copy(
        update={"decontaminate": (str(tmp_path / "elsewhere/quiz.jsonl"), section.decontaminate[1])}
    )
    assert pinned(moved, store) == fixed
    sets = evaluation_sets(store, fixed)
    assert sets is not None
    for text, name in ((LONG, "quiz.jsonl@"), ("one two three four five six", "quiz.jsonl@"), (SHORT, "lines.txt@")):
        found = sets.overlap(text)
        assert found is not None
        assert found.evaluation.startswith(name)
    assert evaluation_sets(store, DataSection()) is None
    (tmp_path / "lines.txt").write_text("Another text with quite enough words\n")
    assert pinned(moved, store) != fixed


@pytest.mark.parametrize(
    ("name", "body"),
    [("a.csv", "x"), ("a.jsonl", "{not json"), ("a.jsonl", '{"other": "text"}'), ("a.txt", "\n"), ("a.jsonl", "[1]")],
)
def test_sets_that_cannot_be_used_are_refused(name: str, body: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(body)
    with pytest.raises(BadInputError, match=r"data\.decontaminate"):
        pinned(DataSection(decontaminate=(str(tmp_path / name),)), Store(str(tmp_path / "store")))
