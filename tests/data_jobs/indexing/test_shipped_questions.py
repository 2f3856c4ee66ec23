"""The vectors of shipped questions are those of the questions that are shipped, and an index takes them over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.core.records import Document
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from data_jobs.indexing.index_blocks import cut, embed
from data_jobs.indexing.shipped_questions import shipped_vectors, write
from data_jobs.indexing.update_index import known_vectors
from data_jobs.retrieval.embedder import Embedder, load_embedder
from data_jobs.retrieval.model_files import find_model
from data_jobs.sources.pydocs.asked import shipped_questions

QUESTIONS = [question for _, question in shipped_questions()]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder(IndexSection())


def test_each_shipped_question_has_its_vector(tmp_path: Path, embedder: Embedder) -> None:
    known = known_vectors(Store(str(tmp_path)), "main", find_model(IndexSection()))
    missing = [question for question in QUESTIONS if known.find(question) is None]
    assert not missing, "questions changed: run `python -m data_jobs.indexing.shipped_questions`"
    sample = QUESTIONS[:: len(QUESTIONS) // 40]
    stored = np.array([known.find(question) for question in sample], np.float32)
    again = embedder.encode(sample, kind="query")
    assert np.allclose(np.linalg.norm(stored, axis=1), 1, atol=0.01)
    assert float((stored * again).sum(1).min()) > 0.98, "another model or file: write the vectors anew"


def test_an_index_of_another_embedder_does_not_look_at_them() -> None:
    assert shipped_vectors("another embedder") is None


def test_shipped_questions_are_not_embedded_again(tmp_path: Path, embedder: Embedder) -> None:
    section = IndexSection()
    files = find_model(section)
    page = Document(
        "copy", "copy", "Copies a file and its permissions.", "copy.txt", questions=(QUESTIONS[0], "My own?")
    )
    pieces = cut([(page, "")], files, section)
    fresh, spared = embed(pieces, embedder), embed(pieces, embedder, known_vectors(Store(str(tmp_path)), "main", files))
    assert spared.embedded == fresh.embedded - 1
    assert np.allclose(spared.vectors, fresh.vectors, atol=0.05)


def test_the_file_is_replaced_by_what_is_shipped_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_jobs.indexing.shipped_questions.shipped_questions", lambda: [("a", "How do I copy?")])
    assert write(tmp_path / "few.npz") == 1
    found = shipped_vectors(find_model(IndexSection()).asks, tmp_path / "few.npz")
    assert found is not None
    keys, vectors = found
    assert keys.shape == (1, 16)
    assert vectors.shape == (1, 384)
