"""The support model and the words it looks at."""

from __future__ import annotations

import math

import pytest

from data_jobs.retrieval.support import SupportModel, support_features, support_model
from data_jobs.retrieval.terms import name_stems, question_terms
from tests.train_jobs.answering.retrievals import COPYING, retrieval
from train_jobs.evaluation.calibrate import SIGNS


def spelt(question: str) -> dict[str, str]:
    kinds = {}
    for term in question_terms(question):
        kinds[term.text] = (
            "identifier" if term.identifier else "acronym" if term.acronym else "name" if term.proper else ""
        )
    return kinds


def test_logistic_probability() -> None:
    model = SupportModel(("x", "y"), (1.0, 0.0), (2.0, 1.0), (3.0, -1.0), 0.5)
    assert model.probability({"x": 2.0, "y": 1.0}) == pytest.approx(1 / (1 + math.exp(-(0.5 + 1.5 - 1.0))))
    assert 0 < model.probability({"x": -1e9, "y": 0.0}) < 1e-6
    with pytest.raises(KeyError):
        model.probability({"x": 1.0})


def test_the_shipped_coefficients_point_the_right_way() -> None:
    model = support_model()
    assert all(SIGNS[name] * value >= 0 for name, value in zip(model.features, model.coefficients, strict=True))
    found = support_features("copy a tree", retrieval("copy a tree", COPYING))
    assert set(model.features) <= set(found)


@pytest.mark.parametrize("evidence", ["top_dense", "best_match", "covered_one", "strange_words", "foreign_names"])
def test_more_evidence_moves_the_probability(evidence: str) -> None:
    model = support_model()
    values = support_features("copy a tree", retrieval("copy a tree", COPYING))
    more = {**values, evidence: values[evidence] + 0.2}
    assert (model.probability(more) - model.probability(values)) * SIGNS[evidence] > 0


def test_spelling_marks_names() -> None:
    assert spelt("How do I sort a slice of structs by a field in Go?")["Go"] == "name"
    assert spelt("How do I use C++ and C#?") == {"C++": "name", "C#": "name"}
    assert spelt("convert to New York time")["New York"] == "name"
    assert spelt("How do I open a PDF with json.load_lazy, e.g. today?") == {
        "open": "",
        "PDF": "acronym",
        "json.load_lazy": "identifier",
        "today": "",
    }


def test_first_words_and_headlines_are_not_names() -> None:
    assert set(spelt("Sort a list. Copy a file.").values()) == {""}
    assert set(spelt("How To Copy A Directory Tree").values()) == {""}


def test_names_that_no_passage_writes_are_foreign() -> None:
    def values(question: str) -> dict[str, float]:
        return support_features(question, retrieval(question, COPYING))

    assert values("How do I copy a directory tree in Kotlin?")["foreign_names"] == 1
    assert values("How do I copy a directory tree in Kotlin?")["foreign_scope"] == 1
    assert values("How do I copy a directory tree with tqdm?")["foreign_scope"] == 1
    assert values("How do I copy a file to a directory?")["foreign_scope"] == 0
    assert values("How do I call shutil.copytree?")["unwritten_identifiers"] == 0
    assert values("How do I call shutil.copy_all?")["unwritten_identifiers"] == 1


def test_words_inside_names() -> None:
    assert name_stems("shutil.copyFileObj") == {"shutil", "copi", "file", "obj"}
    assert name_stems("zip") == {"zip"}


def test_a_known_question_is_evidence_and_its_absence_is_none() -> None:
    silent = support_features("copy a tree", retrieval("copy a tree", COPYING))
    for cosine, better in ((0.9, True), (0.3, False)):
        known = support_features("copy a tree", retrieval("copy a tree", COPYING, features={"top_asked": cosine}))
        assert (support_model().probability(known) > support_model().probability(silent)) is better
        assert better or support_model().probability(known) == support_model().probability(silent)
