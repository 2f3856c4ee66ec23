"""The list of forgotten documents: what it covers, that it only grows, that a change to it is noticed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.core.errors import IntegrityError, UsageError
from cluster.core.records import Copy, Document
from cluster.core.storage import Store
from data_jobs.governance.tombstones import FOLDER, Where, add_tombstone, read_tombstones, text_sha256


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_an_empty_store_covers_nothing(store: Store) -> None:
    found = read_tombstones(store)
    assert found.generation == 0
    assert not found.covers("a.md", "notes", "a.md")
    assert not found.covers("", "", "")


def test_a_document_is_covered_by_id_within_its_source(store: Store) -> None:
    add_tombstone(store, document="a.md", source_name="notes")
    add_tombstone(store, document="b.md")
    found = read_tombstones(store)
    assert found.generation == 2
    assert found.covers("a.md", "notes", "a.md")
    assert not found.covers("a.md", "other", "a.md")
    assert found.covers("a.md"), "where the source is not known, leaving out is the safe side"
    assert found.covers("b.md", "notes")
    assert found.covers("b.md", "other")
    assert not found.covers("c.md", "notes", "c.md")


def test_what_it_was_found_as_is_covered_too(store: Store) -> None:
    digest = text_sha256("the text")
    add_tombstone(store, document="a.md", documents=[("copy/a.md", "notes")], texts=[digest], files=["f" * 64])
    found = read_tombstones(store)
    assert found.covers("copy/a.md", "notes")
    assert found.covers_content(text_sha256=digest)
    assert found.covers_content(file_sha256="f" * 64)
    assert not found.covers_content()
    assert not found.covers_content(text_sha256("another"))


@pytest.mark.parametrize(
    ("rule", "covered", "free"),
    [
        ("source=notes/a.md", [("x", "n", "notes/a.md"), ("x", "n", "notes/a.md:12")], [("x", "n", "notes/a.mdx")]),
        ("source=notes", [("x", "notes", "q"), ("x", "n", "notes/deep/a.md")], [("x", "n", "notes2/a.md")]),
        ("source=*.jsonl", [("x", "n", "a/b.jsonl:3")], [("x", "n", "a/b.json")]),
        ("source_name=wiki", [("x", "wiki", "wiki")], [("wiki", "n", "wiki")]),
        ("document=os.*", [("os.path", "", "")], [("os", "", ""), ("posix.os.path", "", "")]),
    ],
)
def test_rules(store: Store, rule: str, covered: list[tuple[str, str, str]], free: list[tuple[str, str, str]]) -> None:
    add_tombstone(store, where=Where.parse(rule))
    found = read_tombstones(store)
    assert [d for d in covered if not found.covers(*d)] == []
    assert [d for d in free if found.covers(*d)] == []


@pytest.mark.parametrize("rule", ["", "source", "source=", "colour=red", "source=*", "document=**"])
def test_a_rule_that_is_none_or_means_everything_is_refused(rule: str) -> None:
    with pytest.raises(UsageError):
        Where.parse(rule)


def test_polling_reads_only_what_is_new(store: Store) -> None:
    add_tombstone(store, document="a")
    first = read_tombstones(store)
    assert read_tombstones(store, first) is first
    add_tombstone(store, document="b")
    second = read_tombstones(store, first)
    assert second.entries[0] is first.entries[0]
    assert second.covers("b")
    assert second.fingerprint == read_tombstones(store).fingerprint != first.fingerprint


def test_writers_at_the_same_time_lose_nothing(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_tombstone(store, document=f"d{n}"), range(24)))
    found = read_tombstones(store)
    assert found.generation == 24
    assert all(found.covers(f"d{n}") for n in range(24))


@pytest.mark.parametrize("change", ["removed", "edited", "cut", "last_removed"])
def test_a_changed_list_is_refused(store: Store, change: str) -> None:
    for name in ("a", "b", "c"):
        add_tombstone(store, document=name)
    known = read_tombstones(store)
    path = Path(store.path(*FOLDER, "00000003.json" if change == "last_removed" else "00000002.json"))
    if change in ("removed", "last_removed"):
        path.unlink()
    elif change == "edited":
        path.write_text(path.read_text().replace('"b"', '"x"'))
    else:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(IntegrityError):
        read_tombstones(store, known if change == "last_removed" else None)


def test_exactly_one_of_document_and_rule(store: Store) -> None:
    with pytest.raises(UsageError):
        add_tombstone(store)
    with pytest.raises(UsageError):
        add_tombstone(store, document="a", where=Where.parse("source=b"))


def test_what_is_left_names_no_forgotten_copy(store: Store) -> None:
    add_tombstone(store, document="a.md")
    add_tombstone(store, where=Where.parse("source=old"))
    copies = (Copy("a.md", "A", "a.md"), Copy("b.md", "B", "b.md"), Copy("c.md", "C", "old/c.md"))
    documents = [Document("a.md", "A", "x", "a.md"), Document("d.md", "D", "x", "d.md", copies=copies)]
    (left,) = read_tombstones(store).left(documents)
    assert (left.id, left.copies) == ("d.md", copies[1:2])
