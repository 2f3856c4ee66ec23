"""Synthetic rows: tagged, traceable to a span, filtered with counts, capped; the same however the corpus is cut."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import PolicyRefusedError
from cluster.core.records import Document
from cluster.core.storage import Store
from data_jobs.corpus.blocks import DOCUMENT_SCHEMA
from data_jobs.corpus.parquet import parquet_bytes, read_table
from data_jobs.governance.tombstones import add_tombstone
from data_jobs.synthetic.parts import Part, documents_of, finish_part, make_part, read_candidates, survey_part
from data_jobs.synthetic.rows import (
    FILTERS,
    PARAPHRASE,
    QUESTION,
    TAG,
    Candidate,
    Row,
    Settings,
    allowed,
    choose,
    idf,
    make,
    paraphrase_fault,
    question_fault,
    survey,
)

PARTS = ("impeller", "gasket", "rudder", "winch", "halyard", "anchor", "battery", "filter", "stove", "compass")


def corpus() -> list[Document]:
    return [
        Document(
            f"{part}.md", f"The {part} guide",
            f"The {part} is a part of the boat that needs regular care. You can replace the {part} with common tools "
            f"within {number + 2} hours. If the {part} makes noise, stop the engine and look at it. Clean the {part} "
            "with fresh water after every long trip. It is not enough to look at it.\n\n| a | b |\n",
            f"{part}.md", source_name="boat", licence="CC-BY-4.0", owner="crew", sensitivity="internal", language="en",
        )
        for number, part in enumerate(PARTS)
    ]  # fmt: skip


def settings(seed: int = 0, per_document: int = 6) -> Settings:
    return Settings(seed, per_document, *idf(*survey(corpus())))


ROWS, LEFT_OUT = make(corpus(), settings())
ROW = next(row for row in ROWS if row.form == QUESTION)
SAID = next(row for row in ROWS if row.form == PARAPHRASE)


# -- what a row is -----------------------------------------------------------------------------------------------------
def test_every_row_is_tagged_and_leads_back_to_its_span() -> None:
    texts = {document.id: document for document in corpus()}
    assert {row.form for row in ROWS} == {QUESTION, PARAPHRASE}
    for row in ROWS:
        text = texts[row.document].text
        assert row.kind == TAG
        assert text[row.start : row.end] == row.answer
        assert text[row.passage_start : row.passage_end] == row.passage
        assert row.answer in row.passage
        assert (row.licence, row.owner, row.sensitivity, row.language) == ("CC-BY-4.0", "crew", "internal", "en")
        assert row.rule
        assert row.seed == 0
    assert len({row.id for row in ROWS}) == len(ROWS)


def test_a_document_yields_the_same_whatever_else_is_in_its_part() -> None:
    alone = [row for document in corpus() for row in make([document], settings())[0]]
    assert alone == ROWS
    other = make(corpus(), settings(seed=1))[0]
    assert {row.text for row in other} != {row.text for row in ROWS}


def test_nothing_is_made_of_synthetic_text() -> None:
    made = [replace(document, kind=TAG) for document in corpus()]
    assert make(made, settings()) == ([], Counter())
    assert survey(made) == (0, Counter())


@pytest.mark.parametrize("text", ["", "x = 1", "| a |\n|---|", "Short.", "# Heading\n\n>>> f(1)\n2"])
def test_documents_without_sentences_yield_nothing(text: str) -> None:
    assert make([Document("a", "a", text, "a")], settings())[0] == []


# -- filters -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"passage": "Another passage."}, "not_in_passage"),
        ({"passage": ""}, "not_in_passage"),
        ({"text": "Why?"}, "too_short"),
        ({"text": "pump " * 41}, "too_long"),
        ({"title": "How do I do it?", "text": "how do I do it"}, "equals_title"),
        ({"text": ROW.answer.upper()}, "equals_answer"),
        ({"text": "What colour has a zebra crossing?"}, "not_answerable"),
        ({"text": "Who is <PERSON_1> of the boat?"}, "placeholder"),
        ({"text": "What is [the boat](https://a.b)?"}, "markup"),
        ({"text": "What is a part of the boat that is of the?"}, "fragment"),
        ({}, None),
    ],
)
def test_questions_are_left_out_by_name(change: dict[str, Any], reason: str | None) -> None:
    assert question_fault(replace(ROW, **change)) == reason
    assert reason is None or reason in FILTERS


def test_list_items_and_lines_that_just_end_are_fragments() -> None:
    for answer in ("- Various changes to all parts of the boat.", "The boat and all its parts"):
        assert question_fault(replace(ROW, answer=answer, passage=answer, text="Which boat is it?")) == "fragment"


def test_paraphrases_that_say_something_else_are_left_out() -> None:
    assert paraphrase_fault(SAID) is None
    assert paraphrase_fault(replace(SAID, text=SAID.answer.lower())) == "unchanged"
    number = next(row for row in ROWS if row.form == PARAPHRASE and any(c.isdigit() for c in row.answer))
    changed = "".join("99" if c.isdigit() else c for c in number.text)
    assert paraphrase_fault(replace(number, text=changed)) == "numbers_changed"


# -- share cap and choice ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("documents", "cap", "count", "wanted", "most"),
    [(100, 0.5, 0, 100, 100), (100, 0.2, 10, 10, 25), (100, 0.2, 25, 25, 25), (7, 1.0, 0, 7, 7), (7, 1.0, 50, 50, 50)],
)
def test_the_share_counts_real_and_synthetic_together(
    documents: int, cap: float, count: int, wanted: int, most: int
) -> None:
    may = allowed(documents, cap, count)
    assert (may.wanted, may.most) == (wanted, most)
    assert may.wanted / (may.wanted + documents) <= cap + 1e-9


def test_more_than_the_cap_allows_is_refused_with_the_policys_name() -> None:
    with pytest.raises(PolicyRefusedError, match=r"policy synthetic_share.*that is 25, 26 were asked for") as caught:
        allowed(100, 0.2, 26)
    assert caught.value.extras["policy"] == "synthetic_share"
    with pytest.raises(PolicyRefusedError, match="that is none"):
        allowed(3, 0.1, 0)


def candidate(number: int, key: str, answer: str = "", document: str = "d", plain: bool = True) -> Candidate:
    return Candidate(f"id{number:03d}", f"{QUESTION}:{key}", answer or key, document, plain)


def test_duplicates_of_each_other_go_and_so_do_questions_with_two_answers() -> None:
    found = [candidate(1, "a"), candidate(2, "a"), candidate(3, "b", "x"), candidate(4, "b", "y"), candidate(5, "c")]
    kept, left_out = choose(found, 10, seed=0)
    assert kept == {"id001", "id005"}
    assert left_out == {"duplicate": 1, "ambiguous": 2}


def test_every_document_has_a_row_before_any_has_two_and_order_does_not_matter() -> None:
    found = [candidate(n, f"k{n}", document=f"d{n % 5}", plain=n % 2 == 0) for n in range(40)]
    kept, left_out = choose(found, 7, seed=3)
    turns = Counter(one.document for one in found if one.id in kept)
    assert len(kept) == 7
    assert sorted(turns.values()) == [1, 1, 1, 2, 2]
    assert left_out == {"not_chosen": 33}
    assert all(one.plain for one in found if one.id in kept)
    shuffled = random.Random(1).sample(found, len(found))
    assert choose(shuffled, 7, seed=3) == (kept, left_out)
    assert choose(found, 7, seed=4)[0] != kept


# -- parts -------------------------------------------------------------------------------------------------------------
def rows_with_parts(store: Store, number: int) -> list[dict[str, Any]]:
    """The whole run over ``number`` documents files, without a cluster."""
    staging = store.staging(f"run{number}")
    parts = []
    for index in range(number):
        path = store.path("in", f"{number}-{index}.parquet")
        documents = corpus()[index * len(PARTS) // number : (index + 1) * len(PARTS) // number]
        store.write(path, parquet_bytes([d.to_dict() for d in documents], DOCUMENT_SCHEMA))
        parts.append(Part(index, store.uri, path, staging))
    total, frequencies = 0, Counter[str]()
    for part in parts:
        documents_there, terms = survey_part(part)
        total, frequencies = total + documents_there, frequencies + terms
    made = sum(make_part(part, Settings(0, 6, *idf(total, frequencies))) for part in parts)
    assert made == total == len(PARTS)
    candidates = [one for part in parts for one in read_candidates(part)[0]]
    filtered = sum((Counter(read_candidates(part)[1]) for part in parts), Counter())
    kept, _ = choose(candidates, 8, seed=0)
    assert filtered == LEFT_OUT
    counts = [finish_part(part, sorted(kept)) for part in parts]
    assert sum(one["rows"] for one in counts) == 8
    found = [path for path in sorted(Path(staging, "dataset").iterdir())]
    return [row for path in found for row in read_table(path).to_pylist()]


def test_nothing_is_made_of_what_was_forgotten_since(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    path = store.path("in", "documents.parquet")
    store.write(path, parquet_bytes([d.to_dict() for d in corpus()], DOCUMENT_SCHEMA))
    part, before = Part(0, store.uri, path, store.staging("run")), {d.id for d in corpus()}
    assert {d.id for d in documents_of(part)} == before
    add_tombstone(store, document=min(before))
    assert {d.id for d in documents_of(part)} == before - {min(before)}


def test_the_same_rows_come_of_any_number_of_parts(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    one, three = rows_with_parts(store, 1), rows_with_parts(store, 3)
    assert one == three
    known = {row.id: row for row in ROWS}
    assert all(Row(**row) == known[row["id"]] for row in one)
