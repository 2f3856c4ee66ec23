"""What one may read of an index is searched as an index of just these documents, whatever is hidden or added later."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.errors import IncompatibleError, IntegrityError
from cluster.core.records import Document, Manifest
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.storage import Store
from data_jobs.indexing.index_blocks import cut, embed, with_enclosing
from data_jobs.indexing.update_index import compact, update
from data_jobs.retrieval import dense, segments
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.snapshot import Snapshot, write_snapshot
from data_jobs.retrieval.views import MOST_TIMES
from tests.data_jobs.hash_embedder import HashEmbedder

SECTION = IndexSection()
WORDS = "apple bridge copper dragon engine forest garden harbour island jacket kettle ladder".split()  # noqa: SIM905
LABELS = ("", "acme", "acme:hr", "acme:board", "umbrella")
SEES = {
    NO_RIGHTS: {""},
    Rights("acme"): {"", "acme"},
    Rights("acme", ("hr",)): {"", "acme", "acme:hr"},
    Rights("acme", ("board", "hr")): {"", "acme", "acme:hr", "acme:board"},
    Rights("umbrella"): {"", "umbrella"},
    Rights("umbrella", ("hr",)): {"", "umbrella"},
}


def corpus(count: int) -> list[Document]:
    picker = random.Random(count)
    made = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        text = " ".join([*picker.choices(WORDS, k=picker.randint(8, 60)), f"only{number}."])
        asked = (f"Where is the {picker.choice(WORDS)} of only{number}?",) if number % 3 else ()
        made.append(
            Document(f"n{number}.md", f"Note only{number}", text, f"n{number}.md", access=label, questions=asked)
        )
    return made


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder(find_model(SECTION).identity)


@pytest.fixture
def store(home: Path) -> Store:
    return Store(str(home / "store"))


Search = Callable[[Sequence[Document]], Searcher]


@pytest.fixture
def index_of(store: Store, embedder: HashEmbedder) -> Search:
    def made(documents: Sequence[Document]) -> Searcher:
        staging = store.staging("run")
        block = embed(cut(with_enclosing(documents), find_model(SECTION), SECTION), embedder)
        parts = (block.chunks, block.aliases, block.questions, block.units, block.vectors)
        write_snapshot(Path(staging), *parts, embedder.identity, embedder.fingerprint)
        return loaded(store, store.publish("indexes", "main", staging, run_key="run"), embedder)

    return made


def loaded(store: Store, manifest: Manifest, embedder: HashEmbedder) -> Searcher:
    snapshot = Snapshot.load(Path(store.artefact(manifest)), manifest, embedder.fingerprint)
    return Searcher(snapshot, embedder, RetrievalSection(candidates=50))


def questions(count: int) -> list[str]:
    picker = random.Random(3)
    return [" ".join(picker.choices([*WORDS, f"only{picker.randrange(200)}"], k=4)) for _ in range(count)]


def told(found: Retrieval) -> Retrieval:
    """Everything that a search says but when and of which version."""
    return replace(found, timings_ms={}, index_version="", index_as_of="")


@pytest.mark.parametrize("rights", SEES, ids=str)
def test_a_view_says_what_an_index_of_its_documents_alone_says(index_of: Search, rights: Rights) -> None:
    documents = corpus(150)
    view = index_of(documents).views.of(rights)
    alone = index_of([d for d in documents if d.access in SEES[rights]])
    assert {c.access for c in view.snapshot.chunks} == SEES[rights]
    for question in questions(60):
        assert told(view.search(question)) == told(alone.search(question)), question


def test_the_index_itself_is_what_those_see_who_may_read_all_of_it(index_of: Search) -> None:
    open_to_all = index_of([replace(d, access="") for d in corpus(20)])
    assert all(open_to_all.views.of(rights) is open_to_all for rights in SEES)
    of_acme = index_of([replace(d, access=d.access and "acme") for d in corpus(20)])
    assert of_acme.views.of(Rights("acme", ("any",))) is of_acme
    assert of_acme.views.known(NO_RIGHTS) is None


def test_who_may_read_the_same_shares_a_view_and_it_is_made_once(index_of: Search) -> None:
    whole = index_of(corpus(60))
    found: list[Searcher] = []
    threads = [threading.Thread(target=lambda: found.append(whole.views.of(Rights("acme")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert whole.views.of(Rights("acme", ("nobody-s",))) is found[0] is whole.views.known(Rights("acme"))


@pytest.mark.parametrize("large", [True, False], ids=["many are left", "few are left"])
def test_a_stored_index_of_many_vectors_is_filtered_before_ranking(
    index_of: Search, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """Recall against an exact index of the allowed documents alone, where vectors are in inverted lists."""
    documents = corpus(900)
    rights = Rights("acme", ("hr",))
    alone = index_of([d for d in documents if d.access in SEES[rights]])
    assert not hasattr(alone.dense.index, "nprobe")
    with monkeypatch.context() as small:
        small.setattr(dense, "EXACT_UP_TO", 300)
        small.setattr(dense, "MIN_LISTS_SEARCHED", 4)
        whole = index_of(documents)
        assert whole.dense.index.nprobe == 4 < whole.dense.index.nlist
        small.setattr(dense, "EXACT_UP_TO", 300 if large else 600)
        view = whole.views.of(rights)
    assert isinstance(view.dense, dense.PatchedDense) == large
    right = total = 0
    for question in questions(80):
        expected = {p.document for p in alone.search(question, 10).passages}
        got = {p.document for p in view.search(question, 10).passages}
        right, total = right + len(got & expected), total + len(expected)
    assert total > 400
    assert right / total >= (0.98 if large else 1)


def test_a_view_of_nothing_finds_nothing(index_of: Search) -> None:
    whole = index_of([replace(d, access="acme") for d in corpus(12)])
    found = whole.views.of(Rights("umbrella")).search("Where is the apple of only3?")
    assert (found.passages, found.features) == ((), {})
    assert found.index_version == whole.snapshot.version


def test_what_is_hidden_is_hidden_in_views_made_before_and_after(index_of: Search) -> None:
    whole = index_of(corpus(60))
    before = whole.views.of(Rights("acme"))
    target = "n1.md"
    assert [p.document for p in before.search("only1", 1).passages] == [target]
    whole.hide([target])
    after = whole.views.of(Rights("acme", ("hr",)))
    for view in (before, after):
        assert target not in {p.document for p in view.search("only1").passages}
    whole.hide([])
    assert [p.document for p in before.search("only1", 1).passages] == [target]


def test_views_take_bounded_room_and_the_longest_unused_goes_first(index_of: Search) -> None:
    shared = [Document(f"s{n}", f"S{n}", f"shared words number{n}.", "s") for n in range(30)]
    own = [Document(f"t{n}", f"T{n}", f"own words of tenant{n}.", "t", access=f"t{n}") for n in range(6)]
    whole = index_of([*shared, *own])
    first, second = whole.views.of(Rights("t0")), whole.views.of(Rights("t1"))
    assert whole.views.of(Rights("t0")) is first, "used again"
    whole.views.of(Rights("t2"))
    assert whole.views.known(Rights("t1")) is None
    assert whole.views.known(Rights("t0")) is first
    assert sum(len(v.snapshot.chunks) for v in whole.views._views.values()) <= MOST_TIMES * len(whole.snapshot.chunks)
    again = whole.views.of(Rights("t1"))
    assert again is not second
    assert {c.document for c in again.snapshot.chunks} == {f"s{n}" for n in range(30)} | {"t1"}


# -- from the document to the index ------------------------------------------------------------------------------------
def test_an_index_counts_its_labels_through_updates_and_compaction(store: Store, embedder: HashEmbedder) -> None:
    def updated(before: Manifest | None, documents: list[Document], gone: Sequence[str] = ()) -> Manifest:
        return update(store, SECTION, before, documents, gone, embedder, inputs={"n": str(len(documents))})

    documents = corpus(10)
    first = updated(None, documents)
    assert first.counts["access"] == dict.fromkeys(LABELS, 2)
    moved = replace(documents[1], access="umbrella")
    second = updated(first, [moved], ["n0.md"])
    wanted = {"": 1, "acme": 1, "acme:hr": 2, "acme:board": 2, "umbrella": 3}
    assert second.counts["access"] == wanted
    assert second.version != first.version, "another label alone is a change"
    made = compact(store, second)
    assert made.counts["access"] == wanted
    for index in (second, made):
        views = loaded(store, index, embedder).views
        assert not any(p.document == "n1.md" for p in views.of(Rights("acme")).search("only1").passages)
        assert views.of(Rights("umbrella")).search("only1", 1).passages[0].document == "n1.md"
    assert "access" not in updated(None, [replace(d, access="") for d in documents]).counts


def test_an_index_of_earlier_programs_is_everybody_s(store: Store, embedder: HashEmbedder) -> None:
    plain = [replace(d, access="") for d in corpus(6)]
    old = update(store, SECTION, None, plain, (), embedder, inputs={})
    meta = Path(store.artefact(old)) / "meta.json"
    meta.write_text(meta.read_text().replace(f'"format": {segments.FORMAT}', '"format": 6'))
    rows = next(Path(store.artefact(old)).glob("*/chunks.parquet"))
    pq.write_table(pq.read_table(rows).drop_columns(["access"]), rows)
    snapshot = Snapshot.load(Path(store.artefact(old)), old, embedder.fingerprint)
    assert {chunk.access for chunk in snapshot.chunks} == {""}


def test_a_segment_that_must_say_who_may_read_and_does_not_is_refused(store: Store, embedder: HashEmbedder) -> None:
    index = update(store, SECTION, None, corpus(6), (), embedder, inputs={})
    rows = next(Path(store.artefact(index)).glob("*/chunks.parquet"))
    table = pq.read_table(rows)
    pq.write_table(table.drop_columns(["access"]), rows)
    with pytest.raises(IntegrityError, match="who may read"):
        Snapshot.load(Path(store.artefact(index)), index, embedder.fingerprint)
    damaged = table.set_column(table.schema.get_field_index("access"), "access", [[None] * len(table)])
    pq.write_table(damaged, rows)
    views = Searcher(Snapshot.load(Path(store.artefact(index)), index, embedder.fingerprint), embedder,
                     RetrievalSection()).views  # fmt: skip
    assert not any(len(views.of(rights).snapshot.chunks) for rights in (*SEES, Rights("!")))


def test_a_view_shares_the_vectors_of_a_snapshot_without_segments() -> None:
    from cluster.core.records import Chunk

    chunks = [Chunk(f"c{n}", f"d{n}", "T", "s", f"text {n}", 0, 6, access=label) for n, label in enumerate(LABELS)]
    ids = np.arange(5, dtype=np.int32)
    zeros = np.zeros(5, np.int32)
    whole = Snapshot(chunks, [()] * 5, [()] * 5, ids, zeros, zeros, zeros + 6, np.eye(5, dtype=np.float32), "v", "now")
    part = whole.readable({"", "acme:hr"})
    assert [c.document for c in part.chunks] == ["d0", "d2"]
    assert part.unit_chunk.tolist() == [0, 1]
    assert part.vectors.tolist() == np.eye(5)[[0, 2]].tolist()
    assert (part.version, part.as_of) == ("v", "now")


def test_labelled_documents_are_not_added_to_an_index_without_labels(
    store: Store, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = corpus(6)
    monkeypatch.setattr(segments.Meta, "labelled", property(lambda meta: False))
    with pytest.raises(IncompatibleError, match="before documents had access labels"):
        update(store, SECTION, None, documents, (), embedder, inputs={})
    update(store, SECTION, None, [replace(d, access="") for d in documents], (), embedder, inputs={})
