"""What an index learnt of its questions: it orders passages, and changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import IntegrityError
from data_jobs.retrieval.question_map import FILE, QuestionMap
from tests.data_jobs.retrieval.documents import CORPUS
from tests.data_jobs.retrieval.test_search import Make


def towards(question: np.ndarray, target: np.ndarray, strength: float = 3.0) -> QuestionMap:
    """A map that turns one question to a target and leaves what is at right angles to it."""
    return QuestionMap(question[None, :].astype(np.float32), strength * (target - question)[:, None].astype(np.float32))


def test_a_map_that_learnt_nothing_changes_nothing() -> None:
    vector = np.array([0.6, 0.8, 0.0], dtype=np.float32)
    same = QuestionMap(np.ones((2, 3), np.float32), np.zeros((3, 2), np.float32))
    assert np.allclose(same.of(vector), vector)
    turned = towards(vector, np.array([0, 0, 1], dtype=np.float32)).of(vector)
    assert np.linalg.norm(turned) == pytest.approx(1, abs=1e-6)
    assert turned[2] > 0.8


def test_it_comes_back_from_its_folder_and_damage_is_refused(tmp_path: Path) -> None:
    made = QuestionMap(np.full((2, 3), 0.5, np.float32), np.full((3, 2), 0.25, np.float32))
    assert QuestionMap.read(tmp_path, 3) is None
    (tmp_path / FILE).write_bytes(made.to_bytes())
    read = QuestionMap.read(tmp_path, 3)
    assert read is not None
    assert np.array_equal(read.down, made.down)
    assert np.array_equal(read.up, made.up)
    wrong = QuestionMap(made.down * np.nan, made.up)
    for body, dim in ((made.to_bytes(), 4), (made.to_bytes()[:-3], 3), (b"nothing", 3), (wrong.to_bytes(), 3)):
        with pytest.raises(IntegrityError):
            QuestionMap.from_bytes(body, dim)


def test_it_orders_passages_and_leaves_their_scores(searcher: Make) -> None:
    stock = searcher([d for d in CORPUS if d.id.endswith(".md")])  # a closer look decides what code comes first
    question = "When should I give water to my tomatoes?"
    before = stock.find(question)
    vector = stock.embedder.encode([question], kind="query")[0]
    bread = stock.embedder.encode([next(d.text for d in CORPUS if d.id == "bread.md")])[0]
    stock.snapshot = replace(stock.snapshot, question_map=towards(vector, bread))
    after = stock.find(question)
    assert before.passages[0].document == "garden.md"
    assert after.passages[0].document == "bread.md"
    scores = {p.chunk: p.score for p in before.passages}
    assert {p.chunk: p.score for p in after.passages if p.chunk in scores} == pytest.approx(scores)
    assert after.passages[0].score < after.passages[1].score, "scores are those of the question's own vector"


def test_a_part_of_an_index_knows_it_too(searcher: Make) -> None:
    snapshot = searcher(CORPUS).snapshot
    made = QuestionMap(np.zeros((1, 384), np.float32), np.zeros((384, 1), np.float32))
    assert replace(snapshot, question_map=made).readable({""}).question_map is made
