"""Questions about a language: the list, and that nearness to it makes an answer from documented code less sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from data_jobs.retrieval.beside import LanguageQuestions, language_questions
from data_jobs.retrieval.support import CODE_MODEL, confidence, of_code, support_features, support_model
from tests.train_jobs.answering.retrievals import COPYING, HANDBOOK, retrieval
from train_jobs.evaluation.calibrate import CODE_SIGNS

QUESTION = "How do I define a class?"


class Embedding:
    """One axis for each text, in the order first seen."""

    def encode(self, texts: Sequence[str], kind: str) -> np.ndarray:
        return np.eye(len(texts), dtype=np.float32)


def test_the_list_is_questions_without_comments() -> None:
    found = language_questions()
    assert "How do I create a class?" in found
    assert len(set(found)) == len(found) > 100
    assert not any(line.startswith("#") or not line.strip() for line in found)


def test_the_nearest_counts() -> None:
    vector = np.zeros(len(language_questions()), dtype=np.float32)
    vector[[3, 5]] = 0.2, 0.7
    assert LanguageQuestions(Embedding()).nearest(vector) == pytest.approx(0.7)  # type: ignore[arg-type]


def test_the_shipped_model_points_the_right_way() -> None:
    model = support_model(CODE_MODEL)
    assert all(CODE_SIGNS[name] * value >= 0 for name, value in zip(model.features, model.coefficients, strict=True))
    found = retrieval(QUESTION, COPYING)
    assert set(model.features) <= set(of_code(QUESTION, found, support_features(QUESTION, found), 0.5))


def sure(question: str, language: float, passages: Sequence = COPYING) -> float:
    features = {"top_language": language, "top_dense": 0.5, "top_sentence": 0.5}
    return confidence(question, retrieval(question, passages, features=features)).probability


def test_code_answers_questions_about_a_language_with_less_confidence() -> None:
    assert sure(QUESTION, 0.9) < sure(QUESTION, 0.4) < sure(QUESTION, 0.2)
    assert sure(QUESTION, 0.2) == sure(QUESTION, 0.1)


def test_prose_may_be_about_the_language() -> None:
    assert sure(QUESTION, 0.9, HANDBOOK) == sure(QUESTION, 0.0, HANDBOOK)


@pytest.mark.parametrize(
    "question", ["What does shutil.copytree do?", "how does copytree() work, is it shutil.copytree"]
)
def test_a_name_written_as_in_code_is_no_question_about_the_language(question: str) -> None:
    assert sure(question, 0.9) == sure(question, 0.0)
