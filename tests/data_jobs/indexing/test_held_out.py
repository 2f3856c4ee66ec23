"""Held-out questions of a corpus: mixed, reproducible, bounded, and judged by what the index then finds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.progress import Silent
from cluster.core.records import Document
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.storage import Store
from data_jobs.indexing import held_out
from data_jobs.indexing.evidence import summary, write
from data_jobs.indexing.held_out import CONTRAST, LEFT_OUT, HeldOut, gather, held_out_questions, judge
from data_jobs.indexing.update_index import compact, update
from data_jobs.retrieval.facts_asked import told_at_once
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.passage_reader import PassageReader
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.risk import PLOT_FILE, Evidence, Judged, read_evidence
from data_jobs.retrieval.search import Searcher
from tests.data_jobs.hash_embedder import HashEmbedder
from tests.fakes import WordReader
from train_jobs.evaluation.folders import load_folders
from train_jobs.evaluation.local_index import searcher_over

SECTION = IndexSection()
FOLDER = next(folder for folder in load_folders() if folder.name == "museum")
DOCUMENTS = FOLDER.documents
PAGES = tuple(replace(d, id=f"{folder.name}/{d.id}") for folder in load_folders() for d in folder.documents)


@pytest.fixture(scope="module")
def embedder() -> HashEmbedder:
    return HashEmbedder(find_model(SECTION).identity)


@pytest.fixture(scope="module")
def searcher(embedder: HashEmbedder) -> Searcher:
    made = searcher_over(DOCUMENTS, SECTION, RetrievalSection(), embedder)  # type: ignore[arg-type]
    made.reader = PassageReader(WordReader())
    return made


def test_half_of_the_questions_have_an_answer_and_any_first_part_too() -> None:
    asked = held_out_questions(PAGES, 40)
    kinds = Counter(one.kind for one in asked)
    assert kinds["answerable"] == kinds[LEFT_OUT] + kinds[CONTRAST] > 4
    for size in range(2, len(asked) + 1, 2):
        assert sum(one.kind == "answerable" for one in asked[:size]) == size // 2
    assert len({one.question for one in asked if one.kind != CONTRAST}) == len(asked) - kinds[CONTRAST]


def test_only_what_a_reader_is_asked_of_is_asked() -> None:
    asked = held_out_questions(PAGES, 40)
    assert all(told_at_once(one.question) for one in asked)
    assert held_out_questions([replace(one, kind="function") for one in PAGES], 40) == []


def test_the_same_corpus_gives_the_same_questions_in_whatever_order_it_comes() -> None:
    assert held_out_questions(PAGES, 30) == held_out_questions(PAGES[::-1], 30)
    assert held_out_questions(PAGES, 30) != held_out_questions(PAGES, 30, seed=2)
    assert held_out_questions([], 30) == []


def test_an_answer_is_supported_where_the_reader_points_at_its_document(searcher: Searcher) -> None:
    sentence = "The walk is 187 metres long."
    told = HeldOut("answerable", "How many metres long is the walk?", "ropewalk.md", sentence)
    found = judge(searcher, told)
    assert found is not None
    assert found.supported
    elsewhere = judge(searcher, replace(told, document="cafe.md", sentence="Guests may sit outside in summer."))
    assert elsewhere is not None
    assert not elsewhere.supported


def test_a_document_left_out_answers_nothing(searcher: Searcher) -> None:
    hidden = HeldOut(LEFT_OUT, "How many metres long is the walk?", "ropewalk.md", "The walk is 187 metres long.")
    found = judge(searcher, hidden)
    assert found is not None
    assert (found.answerable, found.supported) == (False, False)
    shown = judge(searcher, replace(hidden, kind="answerable"))
    assert shown is not None
    assert found.confidence < shown.confidence


def test_what_may_be_told_elsewhere_is_not_judged(searcher: Searcher) -> None:
    assert judge(searcher, HeldOut(CONTRAST, "Which books does the library keep?", "library.md")) is None
    assert judge(searcher, HeldOut(CONTRAST, "When was the library painted?", "library.md")) is not None


def test_a_killed_gathering_goes_on_where_it_was(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "SAVE_EVERY", 5)
    kept: list[bytes] = []
    whole = gather(searcher, PAGES, Silent(), save=kept.append, count=20)
    assert (whole.reader, whole.documents) == ("words-1", len(PAGES))
    asked = len(held_out_questions(PAGES, 20))
    assert 4 <= len(whole.judged) <= asked <= 20
    known = json.loads(kept[-1])
    assert len(known) == asked // 5 * 5
    searched: list[str] = []
    search = searcher.search

    def counted(question: str, *more: object, **named: object) -> Retrieval:
        searched.append(question)
        return search(question, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(searcher, "search", counted)
    assert gather(searcher, PAGES, Silent(), before=kept[-1], count=20) == whole
    assert len(searched) == asked - len(known)


def test_the_next_versions_of_an_index_carry_what_is_known(home: Path, embedder: HashEmbedder) -> None:
    store = Store(str(home / "store"))
    staging = Path(store.staging("first"))
    first = update(store, SECTION, None, DOCUMENTS, (), embedder, inputs={"folder": "f"})  # type: ignore[arg-type]
    assert read_evidence(Path(store.artefact(first))) is None, "an index that nobody asked promises nothing"
    known = Evidence("words-1", 12, (Judged("answerable", True, 0.9, True),) * 60)
    for path in Path(store.artefact(first)).iterdir():
        path.rename(staging / path.name) if path.name != "manifest.json" else None
    write(known, 0.05, staging, "main")
    second = store.publish("indexes", "main", str(staging), run_key="second")
    new = Document("new.md", "New", "A new page about the boiler of the tug.", "new.md")
    third = update(store, SECTION, second, [new], ["cafe.md"], embedder, inputs={"folder": "f"})  # type: ignore[arg-type]
    fourth = compact(store, third)
    for version in (third, fourth):
        folder = Path(store.artefact(version))
        found = read_evidence(folder)
        assert found == replace(known, carried_from=second.version)
        assert (folder / PLOT_FILE).is_file()
    assert summary(known, 0.05)["threshold"] == 0.4
    assert summary(Evidence("r", 1, ()), 0.05) == {"held_out_questions": 0}
