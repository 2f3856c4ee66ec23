"""What a reader says becomes part of a search's result; one that is missing or breaks takes nothing away from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.errors import BadInputError, PlinthError
from data_jobs.retrieval.passage_reader import PassageReader, load_passage_reader, reader_fingerprint
from data_jobs.retrieval.results import Retrieval, WindowReading
from data_jobs.retrieval.support import POSSIBLE, UNREAD
from tests.fakes import WordReader
from tests.train_jobs.answering.retrievals import COPYING, HANDBOOK, retrieval
from train_jobs.answering.abstention import support

LEAVE = "How many days of paid leave do employees have a year?"


def test_readings_stand_beside_the_passages_in_the_document_s_own_offsets() -> None:
    found = retrieval(LEAVE, [replace(p, start=p.start + 500, end=p.end + 500) for p in HANDBOOK])
    read = PassageReader(WordReader()).read(found)
    assert (read.reader, read.degraded) == ("read", False)
    assert read.readings
    assert "read" in read.timings_ms
    for one in read.readings:
        passage = read.passages[one.passage]
        assert passage.start <= one.start <= one.answer_start <= one.answer_end <= one.end <= passage.end
        assert passage.text[one.answer_start - passage.start : one.answer_end - passage.start].strip()
    assert replace(read, reader="off", readings=(), timings_ms={}) == replace(found, timings_ms={})


def test_a_read_result_crosses_as_json_and_older_ones_can_be_read() -> None:
    read = replace(PassageReader(WordReader()).read(retrieval(LEAVE, HANDBOOK)), threshold=0.83)
    row = json.loads(json.dumps(read.to_dict()))
    assert Retrieval.from_dict(row) == read
    older = {name: value for name, value in row.items() if name not in ("reader", "readings", "threshold")}
    assert Retrieval.from_dict(older) == replace(read, reader="off", readings=(), threshold=None)


def test_a_reader_that_breaks_leaves_the_search_as_it_was() -> None:
    found = retrieval(LEAVE, HANDBOOK)
    read = PassageReader(WordReader(fails=True)).read(found)
    assert (read.reader, read.degraded) == ("failed", True)
    assert read == replace(found, reader="failed")


def test_a_reader_is_spared_what_it_cannot_change() -> None:
    reader = WordReader()
    how = "How do I request paid leave before it starts?"
    strange = "How many kangaroos does the Sydney opera feed?"
    code = "Where does copy2 copy the metadata of a file to?"
    weak = {"top_dense": 0.1, "mean_dense": 0.1, "top_sentence": 0.1, "coverage_1": 0.0, "unknown": 0.9}
    for question, found in (
        (how, retrieval(how, HANDBOOK)),
        (strange, retrieval(strange, HANDBOOK, 0.1, {**weak, "strange_words": 2.0})),
        (code, retrieval(code, COPYING)),
    ):
        read = PassageReader(reader).read(found)
        assert (read.reader, read.degraded, read.readings) == ("spared", False, ())
        assert support(question, read) == support(question, found)
    assert reader.read_windows == []
    assert support(code, retrieval(code, COPYING)).grounded
    assert PassageReader(reader).read(retrieval("", [])).reader == "spared"


def test_a_reader_is_asked_where_the_search_would_refuse_what_is_said_in_other_words() -> None:
    question = "How long may the staff stay away with pay?"
    likeness = {"top_dense": 0.55, "mean_dense": 0.44, "top_sentence": 0.55, "coverage_1": 0.3}
    found = retrieval(question, HANDBOOK, 0.55, likeness)
    assert POSSIBLE < support(question, found).probability < UNREAD
    assert not support(question, found).grounded
    read = PassageReader(WordReader()).read(found)
    assert read.reader == "read"
    for chance, grounded in ((0.95, True), (0.05, False)):
        said = replace(read, readings=tuple(replace(one, answerable=chance) for one in read.readings))
        assert support(question, said).grounded is grounded


def test_a_reader_is_loaded_when_it_is_first_wanted() -> None:
    loaded: list[WordReader] = []

    def load() -> WordReader:
        loaded.append(WordReader())
        return loaded[-1]

    reads = PassageReader(load)
    assert reads.reads
    assert reads.read(retrieval("Where is a file copied to?", COPYING)).reader == "spared"
    assert loaded == []
    assert reads.read(retrieval(LEAVE, HANDBOOK)).reader == reads.read(retrieval(LEAVE, HANDBOOK)).reader == "read"
    assert len(loaded) == 1


def test_off_is_a_choice_and_missing_is_not(tmp_path: Path) -> None:
    found = retrieval(LEAVE, HANDBOOK)
    off = load_passage_reader("off", 1)
    assert (off.reads, off.fingerprint) == (False, "")
    assert (off.read(found).reader, off.read(found).degraded) == ("off", False)
    gone = load_passage_reader(str(tmp_path / "nothing"), 1)
    assert (gone.read(found).reader, gone.read(found).degraded) == ("missing", True)
    with pytest.raises(PlinthError):
        load_passage_reader(str(tmp_path / "nothing"), 1, required=True)


def test_some_of_the_passages_keep_what_belongs_to_them() -> None:
    found = retrieval("Delete a directory tree", COPYING)
    readings = [WindowReading(n, p.start, p.end, n / 10, p.start, p.end, 0.0) for n, p in enumerate(found.passages)]
    read = replace(found, reader="read", readings=tuple(readings))
    some = read.only([4, 0])
    assert [p.document for p in some.passages] == ["shutil.rmtree", "shutil.copytree"]
    for one in some.sentences:
        assert one.text in some.passages[one.passage].text
    before = {read.passages[r.passage].document: r.answerable for r in read.readings}
    assert [(some.passages[r.passage].document, r.answerable) for r in some.readings] == [
        (name, before[name]) for name in ("shutil.rmtree", "shutil.copytree")
    ]
    assert read.only(range(len(read.passages))) == read


def test_a_fingerprint_is_known_before_the_reader_is_loaded(tmp_path: Path) -> None:
    assert reader_fingerprint("off") == ""
    assert reader_fingerprint("auto")
    with pytest.raises(BadInputError, match="holds no reader"):
        reader_fingerprint(str(tmp_path))


@pytest.mark.process  # loads torch
def test_it_is_the_one_of_the_loaded_reader() -> None:
    assert reader_fingerprint("auto") == load_passage_reader("auto", 1, required=True).fingerprint
