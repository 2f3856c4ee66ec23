"""Duplicates: exact and near, files and code objects, and recall against exact similarities of real documents."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.records import Document
from data_jobs.filters.dedup import Duplicate, bands, deduplicate, fingerprint, jaccard, shingles
from tests.conftest import needs

VERSIONS = Path(__file__).parents[3].parent / "shared/data/dup_doc_versions"
LONG = " ".join(f"word{i}" for i in range(80))
DOC = "Return a shallow copy of the mapping with every key and value as they are in it at the time of the call."


def file(name: str, text: str) -> Document:
    return Document(name, name, text, name)


def code(name: str, text: str, kind: str = "method") -> Document:
    return Document(name, name, text, name, kind=kind)


def run(*documents: Document, threshold: float = 0.85) -> list[Duplicate]:
    texts = {document.id: document.text for document in documents}
    return deduplicate(map(fingerprint, documents), texts.__getitem__, threshold)


def test_exact_duplicates_ignore_case_and_spacing() -> None:
    assert run(file("b.md", "Some  text\nhere"), file("a.md", "some text HERE")) == [
        Duplicate("a.md", "b.md", "exact_duplicate", 1.0)
    ]


def test_near_duplicates_are_verified_by_their_true_similarity() -> None:
    near, far = LONG + " tail", " ".join(LONG.split()[:50] + [f"other{i}" for i in range(30)])
    assert run(file("a", LONG), file("b", near), file("c", far)) == [Duplicate("a", "b", "near_duplicate", 0.987)]
    assert jaccard(shingles(LONG), shingles(near)) == pytest.approx(76 / 77)
    assert run(file("a", LONG), file("b", near), threshold=1.0) == []


def test_stock_phrases_document_every_function_they_stand_at() -> None:
    phrase = "Executes an SQL statement."
    assert run(code("sqlite3.Cursor.execute", phrase), code("sqlite3.Connection.execute", phrase)) == []


def test_copies_in_subclasses_are_merged_but_other_functions_are_not() -> None:
    assert [d.dropped for d in run(code("mod.Sub.copy", DOC), code("mod.B.copy", DOC))] == ["mod.Sub.copy"]
    assert run(code("mod.B.copy", DOC), code("mod.B.clone", DOC)) == []
    assert run(code("mod.B.copy", DOC), code("other.B.copy", DOC)) == []


def test_short_texts_with_one_other_word_are_different() -> None:
    assert run(file("a", "Return the left child of it"), file("b", "Return the right child of it")) == []


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_survivors_do_not_depend_on_order(shuffler: random.Random) -> None:
    words = LONG.split()
    documents = [
        file(f"d{i}", " ".join([*words[:70], *("abcd"[i % 4] * (j + 3) for j in range(i % 3))])) for i in range(12)
    ]
    expected = run(*documents)
    shuffler.shuffle(documents)
    assert run(*documents) == expected
    dropped = {d.dropped for d in expected}
    assert not dropped & {d.kept for d in expected}


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 0.95, 1.0])
def test_banding_finds_nearly_every_pair_at_the_threshold(threshold: float) -> None:
    count, rows = bands(threshold)
    assert count * rows <= 128
    assert 1 - (1 - threshold**rows) ** count >= 0.999


def test_a_flood_of_look_alikes_is_linear() -> None:
    flood = [file(f"f{i:03d}", f"{LONG}\nPage {i}") for i in range(600)]
    assert len(run(*flood)) == 599


def test_characters_are_words_where_nothing_separates_words() -> None:
    page = "东京站的列车在早上六点出发，请提前到达站台等候，并且带好您的车票和护照以便检查。列车上禁止吸烟。"
    assert len(shingles(page)) > 30
    assert [d.dropped for d in run(file("a", page), file("b", page + "谢谢您。"))] == ["a"]
    assert shingles("Pump 泵 P1") == {"pump 泵", "泵 p1"}


def test_recall_on_versions_of_real_documents() -> None:
    needs(VERSIONS.exists(), f"the data set {VERSIONS}")
    rows = [json.loads(line) for line in (VERSIONS / "docs.jsonl").read_text().splitlines()]
    documents = [file(row["id"], row["text"]) for row in rows if row["group"].startswith("ps:")][:250]
    known = {document.id for document in documents}
    kept = {duplicate.dropped: duplicate.kept for duplicate in run(*documents)}
    found = wanted = false = 0
    with open(VERSIONS / "pairs.tsv", newline="") as handle:
        for pair in csv.DictReader(handle, delimiter="\t"):
            left, right, similarity = pair["id_a"], pair["id_b"], float(pair["jaccard_5word"])
            if {left, right} <= known:
                together = kept.get(left, left) == kept.get(right, right)
                wanted += similarity >= 0.85
                found += similarity >= 0.85 and together
                false += similarity < 0.5 and together
    assert wanted > 50
    assert found >= 0.99 * wanted
    assert false == 0
