"""A folder as a source, without Ray: hostile files, titles, records, and books that always balance."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.core.errors import BadInputError
from cluster.core.records import Document, Quarantined
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus.blocks import (
    CleanedCorpus,
    CorpusBlock,
    clean_block,
    find_duplicates,
    finish_block,
    finished_counts,
    split,
)
from data_jobs.corpus.report import check_balance, ledger
from data_jobs.sources.files import FILE_REASONS, check_folder, list_files
from data_jobs.sources.records import EXTRACT_REASONS, read_records, split_title
from tests.data_jobs.corpus_blocks import of_documents, of_files

LIMITS = (1 << 20, 10_000)


def listed(root: Path) -> tuple[list[str], dict[str, str]]:
    items, refused = list_files(root, LIMITS[0])
    return [item.path for item in items], {q.source: q.reason for q in refused}


def records(root: Path) -> list[Document | Quarantined]:
    items, _ = list_files(root, LIMITS[0])
    return [record for item in items for record in read_records(root, item, "test", LIMITS)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.txt", b"abc \xff\xfe def", "invalid_utf8"),
        ("nul.rst", b"a\0b", "nul_bytes"),
        ("line.txt", b"short\n" + b"x" * 20_000 + b"\n", "long_line"),
    ],
)
def test_a_bad_file_is_quarantined_while_it_is_read(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.txt").write_bytes(b"\xef\xbb\xbfgood text")
    bad, good = sorted(records(tmp_path), key=lambda r: isinstance(r, Document))
    assert isinstance(bad, Quarantined)
    assert (bad.source, bad.record, bad.reason) == (name, "", reason)
    assert isinstance(good, Document)
    assert good.text == "good text"


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"\xff\xfea\0\0\xd8b\0", "a\ufffdb"), ("some text".encode("utf-16-le"), "some text")],
)
def test_wide_characters_need_no_mark_and_a_damaged_one_costs_itself(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "wide.txt").write_bytes(content)
    (found,) = records(tmp_path)
    assert isinstance(found, Document)
    assert found.text == text


def test_what_is_not_worth_opening_is_quarantined_when_listed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in (root, root / "sub", root / ".git"):
        folder.mkdir()
    (tmp_path / "outside.txt").write_text("secret")
    (root / "good.md").write_text("text")
    (root / "UPPER.TXT").write_text("text")
    (root / "empty.txt").touch()
    (root / "big.txt").write_bytes(b"x" * (LIMITS[0] + 1))
    (root / "sound.mp3").write_bytes(b"ID3")
    (root / "new\nline.txt").write_text("text")
    Path(os.fsdecode(os.fsencode(root) + b"/latin\xe9.txt")).write_text("text")
    (root / "r.jsonl#1.txt").write_text("text")
    os.mkfifo(root / "pipe.txt")
    (root / "loop").symlink_to("loop")
    (root / "sub/up").symlink_to("..")
    (root / "out.txt").symlink_to("../outside.txt")
    (root / "twin.md").symlink_to("good.md")
    (root / "lost.md").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.txt"))
        paths, refused = listed(root)
    assert paths == ["UPPER.TXT", "good.md"]
    assert refused == {
        ".git": "hidden", "empty.txt": "empty", "big.txt": "too_large", "sound.mp3": "unsupported_kind",
        "new\\nline.txt": "bad_name", "latin\\udce9.txt": "bad_name", "r.jsonl#1.txt": "bad_name",
        "pipe.txt": "not_a_file",
        "loop": "symlink_loop", "sub/up": "symlink_loop", "out.txt": "symlink_outside", "twin.md": "symlink",
        "lost.md": "symlink", "socket.txt": "not_a_file",
    }  # fmt: skip
    assert set(refused.values()) <= set(FILE_REASONS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_are_quarantined(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "closed.txt").touch(mode=0)
    (tmp_path / "closed.txt").chmod(0)
    assert set(listed(tmp_path)[1].values()) == {"unreadable"}


def test_a_file_that_changes_under_the_job_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")
    items, _ = list_files(tmp_path, LIMITS[0])
    (tmp_path / "a.txt").write_text("after!")
    (found,) = read_records(tmp_path, items[0], "test", LIMITS)
    assert isinstance(found, Quarantined)
    assert found.reason == "changed"


@pytest.mark.parametrize("source", ["missing", "file.txt", "hollow"])
def test_a_source_that_is_no_folder_is_refused_in_one_line(tmp_path: Path, source: str) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(BadInputError, match=source) as caught:
        check_folder(str(tmp_path / source))
    assert "\n" not in caught.value.message


def test_json_records_one_by_one(tmp_path: Path) -> None:
    lines: list[bytes] = [
        b'{"id": "first", "title": "The\\nfirst", "text": "one"}', b"{bad", b"[1]", b'{"x": 1}', b'{"text": 5}',
        b'{"text": "caf\xff"}', b"", b'{"content": "two"}', b'{"id": "first", "body": "three"}', b"[" * 9000,
        b'{"id": "bad\\nname", "document": "four"}', b'{"id": 7, "text": "five"}', b'{"text": "\\u0000"}',
        b'{"text": "a\0"}',
        b'{"text": "' + b"x" * 20_000 + b'"}', b'{"text": ' + b"9" * 5000 + b"}",
    ]  # fmt: skip
    (tmp_path / "r.jsonl").write_bytes(b"\r\n".join(lines))
    found = records(tmp_path)
    documents = {r.id: (r.title, r.text) for r in found if isinstance(r, Document)}
    assert documents == {
        "r.jsonl#first": ("The first", "one"), "r.jsonl#8": ("r.jsonl#8", "two"),
        "r.jsonl#first~9": ("r.jsonl#first~9", "three"),
        "r.jsonl#11": ("r.jsonl#11", "four"), "r.jsonl#7": ("r.jsonl#7", "five"), "r.jsonl#13": ("r.jsonl#13", "\0"),
        "r.jsonl#4": ("r.jsonl#4", "x: 1"), "r.jsonl#6": ("r.jsonl#6", "caf\ufffd"), "r.jsonl#14": ("r.jsonl#14", "a"),
    }  # fmt: skip
    reasons = {r.record: r.reason for r in found if isinstance(r, Quarantined)}
    assert reasons == {
        "2": "bad_json", "3": "not_an_object", "5": "text_not_string", "10": "bad_json", "15": "long_line",
        "16": "text_not_string",
    }  # fmt: skip
    assert set(reasons.values()) <= set(EXTRACT_REASONS)


@pytest.mark.parametrize(
    ("text", "path", "title"),
    [
        ("---\ntitle: 'Front: matter'\nx: 1\n---\n# Heading\nBody", "a.md", "Front: matter"),
        ("text\n\n## Second level ##\n", "a.md", "Second level"),
        ("```\n# no heading\n```\n\nReal\n====\n", "a.md", "Real"),
        ("---\n\nA rule, not front matter\n", "some_file-name.md", "some file name"),
        ("=======\n Title\n=======\n\nText", "a.rst", "Title"),
        (".. comment\n\nSection\n~~~~~~~\n", "a.rst", "Section"),
        ("# not a heading here", "notes.txt", "notes"),
    ],
)
def test_titles(text: str, path: str, title: str) -> None:
    assert split_title(text, path)[0] == title


def test_front_matter_is_no_part_of_the_body() -> None:
    assert split_title("---\ntitle: T\n---\n\nBody", "a.md")[1] == "\nBody"


# -- whole runs of the blocks, in this process -------------------------------------------------------------------------
def prepared(root: Path, store: Store, blocks: int) -> tuple[dict[str, Any], list[dict[str, Any]], CleanedCorpus]:
    """What prepare_corpus arranges, one block after the other."""
    section = DataSection(source=str(root), blocks=blocks, max_line_kb=10)
    items, refused = list_files(root, LIMITS[0])
    staging = store.staging(f"run{blocks}")
    parts = split(items, [item.bytes for item in items], blocks)
    made = [of_files(i, store, staging, section, root, part, "test") for i, part in enumerate(parts)]
    made = [CorpusBlock.from_json(block.to_json()) for block in made]
    for block in reversed(made):
        clean_block(block)
    cleaned = find_duplicates(store, made)
    counts = [finish_block(block) for block in made]
    assert counts == [finished_counts(store, block) for block in made]
    books = ledger(
        files_seen=len(items) + len(refused), kept=sum(c["documents"] for c in counts),
        dropped=cleaned.left_out(), quarantined=[*refused, *cleaned.quarantined], pii={}, words=0,
    )  # fmt: skip
    rows = [
        row
        for block, count in zip(made, counts, strict=True)
        if count["documents"]
        for row in pq.read_table(io.BytesIO(store.read(block.final_path))).to_pylist()
    ]
    return books, rows, cleaned


TEXTS = [b"The same few words here", b"the SAME few words  here", b"", b" \n", "zwölf".encode("utf-16")]
LINES = [b'{"text": "The same few words here"}', b'{"text": 1}', b"{", b'{"id": "x", "text": "a b c"}']
FILES = st.dictionaries(
    st.from_regex(r"[a-z]{1,6}\.(md|txt|rst|jsonl|png)", fullmatch=True),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(TEXTS),
        st.lists(st.sampled_from(LINES), max_size=5).map(b"\n".join),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_the_books_balance_on_any_folder(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    base = tmp_path_factory.mktemp("any")
    root = base / "root"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    books, rows, _ = prepared(root, Store(str(base / "store")), blocks=3)
    check_balance(books)
    assert books["files_seen"] == len(files)
    assert len(rows) == books["kept"] == len({row["id"] for row in rows})


def test_the_result_does_not_depend_on_the_number_of_blocks(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(12):
        (root / f"f{number:02}.txt").write_text(f"Text number {number % 9} mentions ann@corp.io and some words.")
    store = Store(str(tmp_path / "store"))
    one, many = prepared(root, store, 1), prepared(root, store, 7)
    assert one[:2] == many[:2]
    assert one[0]["duplicates"] == 3
    assert all("<EMAIL_1>" in row["text"] for row in one[1])


def test_a_block_whose_file_was_published_away_is_not_finished(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    document = Document("m.f", "f()", "Some words of documentation.", "m.py:1", kind="function")
    block = of_documents(0, store, store.staging("run"), DataSection(), (document,))
    clean_block(block)
    find_duplicates(store, [block])
    finish_block(block)
    assert finished_counts(store, block) is not None
    store.fs.rm(block.final_path)
    assert finished_counts(store, block) is None


def test_books_that_do_not_balance_are_refused() -> None:
    books = ledger(files_seen=1, kept=1, dropped=[], quarantined=[], pii={}, words=3)
    check_balance(books)
    with pytest.raises(Exception, match="do not add up"):
        check_balance({**books, "kept": 2})


def test_names_of_merged_copies_become_aliases(tmp_path: Path) -> None:
    text = "Return a copy of the whole thing with every single part of it as it is at the time of this call."
    documents = tuple(
        Document(f"mod.{c}.copy", f"{c}.copy()", text, "mod.py:1", kind="method") for c in ("Base", "Other")
    )
    store = Store(str(tmp_path))
    block = of_documents(0, store, store.staging("run"), DataSection(), documents)
    clean_block(block)
    cleaned = find_duplicates(store, [block])
    finish_block(block)
    (row,) = pq.read_table(io.BytesIO(store.read(block.final_path))).to_pylist()
    assert (row["id"], row["aliases"]) == ("mod.Base.copy", ["mod.Other.copy"])
    assert [json.loads(json.dumps(d.__dict__))["dropped"] for d in cleaned.duplicates] == ["mod.Other.copy"]


def test_a_merged_group_keeps_every_id_title_and_source(tmp_path: Path) -> None:
    text = (
        "Hold the button for 5 seconds until the lamp is lit, then wait for the tone and let it go again. Do so with "
    )
    text += " and ".join(f"the {color} {part}" for color in ("red", "blue", "white") for part in ("lamp", "key", "lid"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/guide.md").write_text(f"# Lamp\n\n{text}\n\nThat is all.")
    (tmp_path / "notes/copy.md").write_text(f"# Lamp\n\n{text}")
    (tmp_path / "notes/other.md").write_text(f"# Lamp\n\n{text.replace('5', '7')}")
    _, rows, _ = prepared(tmp_path / "notes", Store(str(tmp_path / "store")), 2)
    found = {row["id"]: Document.from_dict(row).copies for row in rows}
    assert found == {"guide.md": (("copy.md", "Lamp", "copy.md"),), "other.md": ()}
    older = {name: value for name, value in rows[0].items() if name != "copies"}
    assert Document.from_dict(older).copies == ()


def test_a_record_without_title_is_called_by_its_first_heading(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "title": "", "text": "# Ownership rules\n\nEach value has one owner."},
        {"id": "b", "text": "Plain."},
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles = [record.title for record in records(tmp_path) if isinstance(record, Document)]
    assert titles == ["Ownership rules", "docs.jsonl#b"]
