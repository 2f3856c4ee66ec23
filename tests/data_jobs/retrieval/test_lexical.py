"""Terms and BM25: identifiers, stems, weights, and agreement with the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from data_jobs.retrieval.analysis import expand, is_identifier, joined, terms, words
from data_jobs.retrieval.features import question_terms
from data_jobs.retrieval.lexical import K1, B, Bm25, SearchField, count, merged


def index(*texts: str) -> Bm25:
    return Bm25((SearchField("text", 1.0),), [(count([texts]), None)])


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("shutil.copytree", ("shutil", "copytre", "shutil.copytree")),
        ("OrderedDict", ("order", "dict", "ordereddict")),
        ("move_to_end", ("move", "end", "move_to_end")),
        ("HTTPServer", ("http", "server", "httpserver")),
        ("running", ("run",)),
        ("Café", ("cafe",)),
        ("the", ()),
        ("検索語", ("検索", "索語")),
    ],
)
def test_terms_of_a_token(token: str, expected: tuple[str, ...]) -> None:
    assert expand(token) == expected


def test_two_words_find_the_name_that_joins_them() -> None:
    names = index("shutil.copytree", "shutil.rmtree", "os.walk")
    assert joined(words("copy tree")) == ["copytre"]
    scores = names.scores(question_terms("copy tree", names).weighted)
    assert scores.argmax() == 0
    assert scores[0] > 0 == scores[1]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("os.path", True),
        ("my_name", True),
        ("OrderedDict", True),
        ("JSON", False),
        ("hello", False),
        ("3.11", False),
        ("Hello", False),
    ],
)
def test_what_looks_like_code(token: str, expected: bool) -> None:
    assert is_identifier(token) is expected


def test_scores_follow_the_formula() -> None:
    texts = ["apple apple banana", "banana cherry", "cherry cherry cherry date"]
    average = sum(len(terms(t)) for t in texts) / 3
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    norm = K1 * (1 - B + B * 3 / average)
    assert index(*texts).scores({"appl": 1.0})[0] == pytest.approx(idf * 2 * (K1 + 1) / (2 + norm), rel=1e-5)


def test_fields_add_up_with_their_weights() -> None:
    counted = count([["apple", "pear"], ["apple", "apple"]])
    both = Bm25((SearchField("title", 2.0, 0.0), SearchField("text", 1.0, 0.0)), [(counted, None)])
    only_text, both_fields = both.scores({"appl": 1.0})[[1, 0]]
    assert both_fields == pytest.approx(3 * only_text, rel=1e-5)


def test_nothing_to_search() -> None:
    assert index().scores({"appl": 1.0}).shape == (0,)
    assert index("", "...").scores({"appl": 1.0}).tolist() == [0.0, 0.0]
    assert index("apple").scores({"zebra": 1.0}).tolist() == [0.0]


def test_unknown_words_weigh_most() -> None:
    fruit = index("apple banana", "apple cherry")
    assert fruit.weight("zebra") > fruit.weight("banana") > fruit.weight("appl")


def test_chunks_add_up_to_documents_whose_title_counts_once() -> None:
    titles, texts = ["pear", "pear", "fig"], ["apple plum", "apple", "plum"]
    added = merged([(count([titles, texts]), None)], np.array([0, 0, 1]), once=(0,))
    whole = count([["pear", "fig"], ["apple plum apple", "plum"]])
    fields = (SearchField("title", 0.5, 0.4), SearchField("text", 1.0, 0.6))
    ours, theirs = Bm25(fields, [(added, None)]), Bm25(fields, [(whole, None)])
    assert ours.vocabulary.keys() == theirs.vocabulary.keys()
    for term in theirs.vocabulary:
        assert ours.scores({term: 1.0}).tolist() == pytest.approx(theirs.scores({term: 1.0}).tolist())
