"""Searching: the right passage, exact offsets, one passage per document, honest features, odd questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from cluster.core.records import Document
from data_jobs.retrieval.features import FEATURES
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.search import Searcher
from tests.data_jobs.retrieval.documents import CORPUS

Make = Callable[[Sequence[Document]], Searcher]


@pytest.fixture(scope="module")
def search(searcher: Make) -> Callable[[str], Retrieval]:
    return searcher(CORPUS).search


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("How do I duplicate a whole folder?", "files.copytree"),
        ("copytree", "files.copytree"),
        ("what does files.Lock do", "files.Lock"),
        ("When should I give water to my tomatoes?", "garden.md"),
        ("how long must dough be worked", "bread.md"),
    ],
)
def test_the_right_document_comes_first(search: Callable[[str], Retrieval], question: str, document: str) -> None:
    assert search(question).passages[0].document == document


def test_a_result_is_consistent(search: Callable[[str], Retrieval]) -> None:
    result = search("keep two processes from writing the same file")
    texts = {d.id: d.text for d in CORPUS}
    assert all(p.text == texts[p.document][p.start : p.end] for p in result.passages)
    assert [p.score for p in result.passages] == sorted((p.score for p in result.passages), reverse=True)
    assert len({p.document for p in result.passages}) == len(result.passages)
    for sentence in result.sentences:
        passage = result.passages[sentence.passage]
        assert sentence.text == texts[passage.document][sentence.start : sentence.end]
        assert passage.start <= sentence.start < sentence.end <= passage.end
        assert -1 <= sentence.dense <= 1.001
        assert 0 <= sentence.lexical <= 1
    best = max(result.sentences, key=lambda s: s.dense)
    assert best.text == "A lock that keeps two processes from writing the same file."
    assert set(result.features) == set(FEATURES)
    assert Retrieval.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_methods_of_one_class_do_not_crowd_others_out(search: Callable[[str], Retrieval]) -> None:
    found = [p.document for p in search("acquire or release the lock").passages]
    assert len({"files.Lock", "files.Lock.acquire", "files.Lock.release"} & set(found)) == 2


def test_features_tell_the_known_from_the_unknown(search: Callable[[str], Retrieval]) -> None:
    known = search("copy a directory tree").features
    unknown = search("deploy kubernetes.Ingress with helm").features
    assert known["top_dense"] > unknown["top_dense"]
    assert known["coverage_1"] == 1.0 > unknown["coverage_1"]
    assert (known["unknown"], known["unknown_identifiers"], known["strange_words"]) == (0, 0, 0)
    assert unknown["unknown"] > 0.5
    assert unknown["unknown_identifiers"] == 1


@pytest.mark.parametrize("question", ["", "   \n", "\u200b"])
def test_an_empty_question_is_answered_with_nothing_or_calmly(
    search: Callable[[str], Retrieval], question: str
) -> None:
    result = search(question)
    assert bool(result.passages) == bool(question.strip())
    assert result.index_version


@pytest.mark.parametrize(
    "question",
    [
        "word " * 20_000,
        "x" * 30_000,
        "?!" * 500,
        "Wie lange geht der Teig?",
        "日本語の質問ですか",
        "🙂",
        "a\x00b",
        "NaN",
    ],
)
def test_odd_questions_do_no_harm(search: Callable[[str], Retrieval], question: str) -> None:
    result = search(question)
    assert 1 <= len(result.passages) <= 8
    assert all(value == value and abs(value) < 1e6 for value in result.features.values())


def test_an_index_of_one_document(searcher: Make) -> None:
    result = searcher(CORPUS[-1:]).search("dough", k=3)
    assert [p.document for p in result.passages] == ["bread.md"]
    assert all(value == value for value in result.features.values())


def test_k_limits_the_passages(search: Callable[..., Retrieval]) -> None:
    assert len(search("lock", k=2).passages) == 2


def test_documents_can_be_left_out_as_if_they_were_not_there(searcher: Make) -> None:
    question = "How do I duplicate a whole folder?"
    every = searcher(CORPUS)
    whole, left = every.search(question), every.search(question, without={"files.copytree"})
    assert whole.passages[0].document == "files.copytree"
    assert {p.document for p in left.passages} == {p.document for p in whole.passages} - {"files.copytree"}
    assert left.features["top_dense"] < whole.features["top_dense"]
    assert every.search(question, without={"nothing.of.that.name"}).passages == whole.passages
    assert every.search(question, without={d.id for d in CORPUS}).passages == ()


def test_leaving_out_is_what_an_index_without_the_document_would_say(searcher: Make) -> None:
    """A word that stood only there is unknown, and no chunk matches by it."""
    question = "When should I give water to my tomatoes?"
    left = searcher(CORPUS).search(question, without={"garden.md"})
    never = searcher([d for d in CORPUS if d.id != "garden.md"]).search(question)
    assert searcher(CORPUS).search(question).features["unknown"] == 0
    assert left.features["unknown"] > 0
    assert [p.document for p in left.passages] == [p.document for p in never.passages]
    for name in ("unknown", "strange_words", "coverage_1"):
        assert left.features[name] == pytest.approx(never.features[name], abs=0.1)
