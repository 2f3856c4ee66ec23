"""Known questions in the index: they find their document, count with measure, and never show."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.core.records import Document
from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.data import RetrievalSection
from data_jobs.indexing.index_blocks import IndexBlock, cut, embed
from data_jobs.retrieval import dense, fusion
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.fusion import fused, known, static
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.snapshot import QUESTION, Snapshot
from tests.data_jobs.retrieval.conftest import INDEX, Publish
from tests.data_jobs.retrieval.documents import CORPUS
from train_jobs.answering.quote import answer

Make = Callable[[Sequence[Document]], Searcher]
KNOWN = ("stop two cron jobs stepping on each other's toes", "mutex between programs")
PARAPHRASE = "my cron jobs keep stepping on one another"
ASKED = [replace(d, questions=KNOWN) if d.id == "files.Lock" else d for d in CORPUS]


def test_a_known_question_finds_its_document(searcher: Make) -> None:
    plain, expanded = searcher(CORPUS).search(PARAPHRASE), searcher(ASKED).search(PARAPHRASE)
    assert plain.features["top_asked"] == 0
    assert all(p.asked == 0 for p in plain.passages)
    best = expanded.passages[0]
    assert best.document == "files.Lock"
    assert best.asked == pytest.approx(expanded.features["top_asked"])
    assert best.asked > max(p.dense for p in plain.passages)
    assert best.score > plain.passages[0].score
    assert {p.document: p.asked for p in expanded.passages}["bread.md"] == 0


def test_its_words_are_searched_too(searcher: Make) -> None:
    assert searcher(CORPUS).lexical.scores({"mutex": 1.0}).max() == 0
    index = searcher(ASKED)
    assert index.snapshot.chunks[int(index.lexical.scores({"mutex": 1.0}).argmax())].document == "files.Lock"


def test_a_known_question_never_shows(searcher: Make) -> None:
    found = searcher(ASKED).search(KNOWN[0])
    made = answer(KNOWN[0], found, AnswerSection(min_confidence=0))
    shown = json.dumps([made.to_dict(), [p.to_dict() for p in found.passages], [vars(s) for s in found.sentences]])
    assert found.passages[0].asked > 0.99
    assert "files.Lock" in made.text
    assert not any(question in shown for question in KNOWN)


def test_without_questions_nothing_changes(searcher: Make) -> None:
    documents = [*CORPUS, Document("far.md", "Stars", "A star is a ball of gas.", "far.md", questions=("red giants",))]
    question = "When should I give water to my tomatoes?"
    assert [p.asked for p in searcher(documents).search(question).passages if p.document == "garden.md"] == [0.0]
    cosines, lexical = np.array([0.5, 0.2]), np.array([0.1, 0.3])
    rank = static(np.array([0.0, 0.1]), np.array([False, False]), 0.0)
    silent = fuse(cosines, lexical, [0.0, 0.0], rank, 0.0)
    assert silent == pytest.approx([0.53, 0.365])
    assert fuse(cosines, lexical, [0.0, 0.9], rank, 0.0)[1] > silent[0]
    assert fuse(cosines, lexical, [0.0, 0.3], rank, 0.0)[1] == silent[1]


def fuse(
    cosines: np.ndarray, lexical: np.ndarray, asked: Sequence[float], rank: np.ndarray, share: float
) -> np.ndarray:
    cosine = np.array(asked)
    return fused(cosines, lexical, cosine, rank, 0.3, cosine == 0, share)


def test_text_and_question_that_agree_count_for_more_than_one_of_them() -> None:
    nothing, cosines, asked = np.zeros(3), np.array([0.5, 0.5, 0.1]), [0.75, 0.55, 0.78]
    agree, texts_alone, question_alone = fuse(cosines, nothing, asked, nothing, 1.0)
    assert agree > question_alone > texts_alone
    even, _, more = fuse(cosines, nothing, asked, nothing, 0.0)
    assert more > even  # where no document but a few have questions, the better of both is all that counts


def test_a_document_without_questions_is_not_taken_for_one_whose_questions_say_nothing() -> None:
    nothing, cosines = np.zeros(3), np.array([0.5, 0.5, 0.4])
    agrees, silent, other = fuse(cosines, nothing, [0.7, 0.0, 0.55], nothing, 1.0)
    assert agrees > silent > other
    later = fused(cosines, nothing, nothing, nothing, 0.3, nothing, 1.0)  # later chunks of documents that have some
    assert later == pytest.approx(cosines)


def test_a_search_counts_both_where_documents_have_questions(searcher: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [d if d.questions else replace(d, questions=("an entirely different matter",)) for d in ASKED]
    index = searcher(every)
    both = index.search(PARAPHRASE).passages[0]
    monkeypatch.setattr(fusion, "BOTH", 0.0)
    better = index.search(PARAPHRASE).passages[0]
    assert both.document == better.document == "files.Lock"
    assert both.score - better.score == pytest.approx(
        0.5 * min(both.dense, float(known(np.array(both.asked)))), abs=1e-5
    )


def test_documents_without_questions_are_not_crowded_out(searcher: Make) -> None:
    prior = np.zeros(2)
    few, many = (static(prior, np.array([True, False]), share) for share in (0.1, 0.9))
    assert few[0] == many[0] == 0
    assert 0 < few[1] < many[1] < 0.2
    # Every chunk of a document counts as asked for, not only the first, which holds the questions.
    long = Document("long.md", "Long", "One sentence about apples. " * 120, "long.md", questions=("why apples",))
    index = searcher([long, CORPUS[-1]])
    of = [chunk.document for chunk in index.snapshot.chunks]
    assert of.count("long.md") > 1
    assert {name: rank for name, rank in zip(of, index._rank, strict=True)} == {"long.md": 0, "bread.md": many_of(0.5)}
    assert len({(name, float(rank)) for name, rank in zip(of, index._rank, strict=True)}) == 2


def many_of(share: float) -> float:
    return float(static(np.zeros(1), np.array([False]), share)[0])


def test_questions_belong_to_the_first_chunk_and_survive_storage(embedder: Embedder) -> None:
    long = Document("long.md", "Long", "One sentence about apples. " * 120, "long.md", questions=("why apples",))
    block = embed(cut([(long, "")], find_model(INDEX), INDEX), embedder)
    assert len(block.chunks) > 1
    assert block.questions == (("why apples",), *[()] * (len(block.chunks) - 1))
    units = [u for u in block.units if u.kind == QUESTION]
    assert [(u.chunk, u.start, u.end) for u in units] == [(0, 0, 1)]
    stored = IndexBlock.from_bytes(block.to_bytes())
    assert (stored.questions, stored.units) == (block.questions, block.units)


def test_the_snapshot_holds_them(publish: Publish, embedder: Embedder, tmp_path: Path) -> None:
    store, manifest = publish(ASKED)
    loaded = Snapshot.load(store.fetch(manifest, tmp_path), manifest, embedder.fingerprint)
    assert {c.document: q for c, q in zip(loaded.chunks, loaded.questions, strict=True) if q} == {"files.Lock": KNOWN}
    assert int((loaded.unit_kind == QUESTION).sum()) == 2
    assert publish(CORPUS)[1].version != manifest.version


def test_many_questions_are_stored_clustered_and_found(
    publish: Publish, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "EXACT_UP_TO", 100)
    topics = ["apples", "rivers", "violins", "glaciers", "bridges"]
    documents = [
        Document(f"{topic}.md", "Note", f"Note number {at}.", f"{topic}.md",
                 questions=tuple(f"where do I read about {topic} in part {n}" for n in range(30)))
        for at, topic in enumerate(topics)
    ]  # fmt: skip
    store, manifest = publish(documents)
    assert {"dense_questions.faiss"} == {Path(f.path).name for f in manifest.files if f.path.endswith(".faiss")}
    snapshot = Snapshot.load(store.fetch(manifest, tmp_path), manifest, embedder.fingerprint)
    found = Searcher(snapshot, embedder, RetrievalSection(candidates=5)).search("reading on violins, part 3")
    assert found.passages[0].document == "violins.md"
