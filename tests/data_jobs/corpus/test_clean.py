"""The clean pass and the duplicates step through real blocks: what the settings leave out, and why; that the number of
blocks decides nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.core.records import Document
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus import clean
from data_jobs.corpus.blocks import (
    DROPPED_SCHEMA,
    CorpusBlock,
    clean_block,
    find_duplicates,
    finish_block,
    read_rows,
    split,
)
from data_jobs.corpus.parquet import parquet_bytes
from data_jobs.filters.decontaminate import pinned
from tests.data_jobs.corpus_blocks import of_documents

ENGLISH = "The harbour of the town was built long ago, and most of its walls still stand today."
GERMAN = "Der Hafen der Stadt wurde vor langer Zeit gebaut, und die meisten Mauern stehen noch heute."
CODE = "x = f(1)\ny = g(x, 2)"
PLANTED = "Which of the seven bridges over the river was closed to all traffic after the great flood of that spring?"


def prepared(
    folder: Path, documents: Sequence[Document], section: DataSection, count: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows kept, rows of dropped.parquet)."""
    store = Store(str(folder / f"store{count}"))
    section = pinned(section, store)
    parts = split(documents, [len(d.text) for d in documents], count)
    blocks = [of_documents(i, store, store.staging("run"), section, part) for i, part in enumerate(parts)]
    for block in blocks:
        clean_block(CorpusBlock.from_json(block.to_json()))
    cleaned = find_duplicates(store, blocks)
    rows: list[dict[str, Any]] = []
    for block in blocks:
        if finish_block(block)["documents"]:
            rows += read_rows(store, block.final_path)
    dropped = [one.to_dict() for one in cleaned.left_out()]
    assert parquet_bytes(dropped, DROPPED_SCHEMA)
    return sorted(rows, key=lambda row: row["id"]), dropped


def file(name: str, text: str) -> Document:
    return Document(name, name, text, name)


def test_survivors_and_the_map_of_clusters_do_not_depend_on_the_number_of_blocks(
    data_set: Callable[[str], Path], tmp_path: Path
) -> None:
    lines = (data_set("dup_doc_versions") / "docs.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if len(row["text"]) < 4000]
    documents = [file(row["id"], row["text"]) for row in rows][:80]
    results = [prepared(tmp_path, documents, DataSection(names="off"), count) for count in (1, 3, 17)]
    assert results[0] == results[1] == results[2]
    rows, dropped = results[0]
    duplicates = [row for row in dropped if row["stage"] == "duplicate"]
    assert len(duplicates) > 20
    assert len(rows) + len(dropped) == len(documents)
    kept = {row["id"] for row in rows}
    assert {row["kept"] for row in duplicates} <= kept
    assert all(0.85 <= row["similarity"] <= 1 for row in duplicates)
    assert {row["language"] for row in rows} <= {"en", "und"}


def test_documents_of_other_languages_are_left_out_and_undetermined_ones_stay(tmp_path: Path) -> None:
    documents = [file("code.md", CODE), file("de.md", GERMAN), file("en.md", ENGLISH)]
    rows, dropped = prepared(tmp_path, documents, DataSection(names="off", languages=("en",)), 2)
    assert [(row["id"], row["language"]) for row in rows] == [("code.md", "und"), ("en.md", "en")]
    assert [(row["document"], row["reason"]) for row in dropped] == [("de.md", "language")]
    everything, _ = prepared(tmp_path, documents, DataSection(names="off"), 1)
    assert [row["language"] for row in everything] == ["und", "de", "en"]


def test_documents_with_items_of_an_evaluation_set_are_left_out_and_listed(tmp_path: Path) -> None:
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"question": PLANTED}) + "\n")
    documents = [file("clean.md", ENGLISH), file("leak.md", f"{ENGLISH} {PLANTED.lower()} {GERMAN}")]
    section = DataSection(names="off", decontaminate=(str(tmp_path / "quiz.jsonl"),))
    rows, (dropped,) = prepared(tmp_path, documents, section, 2)
    assert [row["id"] for row in rows] == ["clean.md"]
    assert (dropped["document"], dropped["reason"], dropped["similarity"]) == ("leak.md", "contaminated", 1.0)
    assert dropped["detail"].startswith("quiz.jsonl@")
    assert dropped["detail"].endswith("% of the document")


@pytest.mark.parametrize(
    ("types", "text"),
    [
        (None, "Write to <EMAIL_1>, see https://www.python.org/dev"),
        (("URL",), "Write to ann@corp.io, see <URL_1>"),
        (("EMAIL", "URL"), "Write to <EMAIL_1>, see <URL_1>"),
    ],
)
def test_the_settings_say_what_is_redacted(types: tuple[str, ...] | None, text: str, tmp_path: Path) -> None:
    section = DataSection(names="off", redact=types) if types else DataSection(names="off")
    (row,), _ = prepared(tmp_path, [file("a.md", "Write to ann@corp.io, see https://www.python.org/dev")], section, 1)
    assert row["text"] == text


def test_the_profile_web_asks_for_more(tmp_path: Path) -> None:
    documents = [file("short.md", ENGLISH)]
    _, (dropped,) = prepared(tmp_path, documents, DataSection(names="off", quality="web"), 1)
    assert dropped["reason"] == "gopher_word_count"


def test_a_step_is_a_function_and_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_shouting(draft: clean.Draft, rules: clean.CleaningRules) -> clean.Draft | clean.LeftOut:
        return clean.LeftOut("shouting", detail="capitals only") if draft.document.text.isupper() else draft

    monkeypatch.setattr(clean, "STEPS", (*clean.STEPS, check_shouting))
    rows, (dropped,) = prepared(
        tmp_path, [file("a.md", ENGLISH), file("b.md", ENGLISH.upper())], DataSection(names="off"), 1
    )
    assert [row["id"] for row in rows] == ["a.md"]
    assert (dropped["document"], dropped["stage"], dropped["reason"]) == ("b.md", "filtered", "shouting")
    assert dropped["detail"] == "capitals only"
