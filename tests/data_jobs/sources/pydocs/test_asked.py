"""Questions as part of documents: read, cleaned, redacted, kept through deduplication, shipped for the library."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.errors import BadInputError
from cluster.core.records import Document
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus.blocks import DOCUMENT_SCHEMA, CorpusBlock, clean_block, find_duplicates, finish_block
from data_jobs.corpus.dataset import read_documents
from data_jobs.sources.files import list_files
from data_jobs.sources.pydocs import stdlib
from data_jobs.sources.pydocs.asked import shipped_questions, with_questions
from data_jobs.text.questions import MAX_CHARS, MAX_QUESTIONS, clean_questions
from tests.data_jobs.corpus_blocks import of_documents, of_files

TEXT = (
    "Copies every file and folder below one place to another, with permissions and times, and says where it put them."
)


def run(store: Store, blocks: list[CorpusBlock]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Both passes over the blocks: their counts, and the rows of the dataset."""
    for block in blocks:
        clean_block(block)
    find_duplicates(store, blocks)
    counts = [finish_block(block) for block in blocks]
    paths = [block.final_path for block, count in zip(blocks, counts, strict=True) if count["documents"]]
    return counts, [row for path in paths for row in pq.read_table(io.BytesIO(store.read(path))).to_pylist()]


def test_questions_are_cleaned_and_bounded() -> None:
    asked = ["  How\u200b do I\n copy? ", "HOW DO I COPY?", "", "?!", "x" * (MAX_CHARS + 1), "caf\u0065\u0301 menu"]
    assert clean_questions(asked) == ("How do I copy?", "caf\u00e9 menu")
    assert len(clean_questions(f"question {n}" for n in range(100))) == MAX_QUESTIONS


def test_a_json_record_brings_its_questions(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = [
        {
            "id": "good",
            "text": "The first text says one thing.",
            "questions": ["Who wrote to ann.lee@gmail.com?", " a\tb "],
        },
        {"id": "mixed", "text": "Another text, which is about trees.", "questions": ["fine", 7, None, ["no"]]},
        {"id": "wrong", "text": "A third text, which is about the sea.", "questions": "not a list"},
        {"id": "none", "text": "The last of the texts, about stones."},
    ]
    (source / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(str(tmp_path / "store"))
    block = of_files(0, store, store.staging("run"), DataSection(), source, list_files(source, 1 << 20)[0], "test")
    counts, made = run(store, [CorpusBlock.from_json(block.to_json())])
    asked = {row["id"].partition("#")[2]: row["questions"] for row in made}
    assert asked == {"good": ["Who wrote to <EMAIL_1>?", "a b"], "mixed": ["fine"], "wrong": [], "none": []}
    assert counts[0]["questions"] == 3
    assert counts[0]["pii"] == {"EMAIL": 1}


def test_what_a_duplicate_is_asked_for_the_kept_one_answers(tmp_path: Path) -> None:
    documents = [
        Document("a.md", "a", TEXT, "a.md", questions=("How do I copy a folder?",)),
        Document("b.md", "b", TEXT, "b.md", questions=("clone a directory", "how do i copy a folder?")),
    ]
    store = Store(str(tmp_path))
    staging = store.staging("run")
    blocks = [of_documents(i, store, staging, DataSection(), (d,)) for i, d in enumerate(documents)]
    counts, rows = run(store, blocks)
    assert [(row["id"], row["questions"]) for row in rows] == [
        ("a.md", ["How do I copy a folder?", "clone a directory"])
    ]
    assert sum(count["questions"] for count in counts) == 2


def test_the_dataset_holds_every_field_and_older_ones_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DOCUMENT_SCHEMA.names == [field.name for field in fields(Document)]
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path / "home"))
    store = Store(str(tmp_path / "store"))
    row = Document("a", "a", TEXT, "a", aliases=("b",)).to_dict()
    row.pop("questions")
    staging = store.staging("run")
    pq.write_table(pa.Table.from_pylist([row]), f"{staging}/documents-00000.parquet")
    read = read_documents(store, store.publish("datasets", "old", staging, run_key="run"))
    assert read == [Document("a", "a", TEXT, "a", aliases=("b",))]


def test_shipped_questions_find_their_document_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("shutil.copytree\tcopy a folder\n\nold.name\tclone a directory\ngone\twhy\n")
    (tmp_path / "y.tsv").write_text("other\tsomething else\n")
    documents = [
        Document("shutil.copytree", "", TEXT, "", aliases=("old.name",)),
        Document("other", "", TEXT, "", questions=("first",)),
        Document("silent", "", TEXT, ""),
    ]
    made, unplaced = with_questions(documents, tmp_path)
    assert [d.questions for d in made] == [("copy a folder", "clone a directory"), ("first", "something else"), ()]
    assert unplaced == 1


@pytest.mark.parametrize("line", ["no tab", "name\t", "\tquestion", "name\tone\ttwo"])
def test_a_broken_shipped_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.tsv").write_text(f"name\tquestion\n{line}\n")
    with pytest.raises(BadInputError, match=r"x\.tsv:2"):
        list(shipped_questions(tmp_path))


def test_the_shipped_files_are_part_of_the_source_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stdlib.library_version()
    assert before == stdlib.library_version()
    monkeypatch.setattr(stdlib, "questions_version", lambda: {"x.tsv": "changed"})
    assert stdlib.library_version() != before


def test_the_shipped_questions_are_clean_and_stand_once() -> None:
    shipped = list(shipped_questions())
    assert len(shipped) > 3000
    assert len({(name, question.casefold()) for name, question in shipped}) == len(shipped)
    assert all(clean_questions([question]) == (question,) for _, question in shipped)
