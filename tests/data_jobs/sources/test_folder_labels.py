"""Labels by folder, from the file that says them to the dataset: inherited, narrowed, never passed over, kept apart."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.core.access import FOLDER_FILE
from cluster.core.errors import IntegrityError, PolicyRefusedError, UsageError
from cluster.core.records import Document, Manifest
from cluster.core.sections.data import DataSection
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from data_jobs.corpus.blocks import clean_block, find_duplicates, finish_block
from data_jobs.corpus.contracts import DOCUMENT_SCHEMA, DOCUMENTS
from data_jobs.governance.policies import check_open, check_use
from data_jobs.indexing.index_blocks import with_enclosing
from data_jobs.indexing.watch import path_key
from data_jobs.sources.catalogue import governed, load_catalogue
from data_jobs.sources.files import list_files
from data_jobs.sources.files_source import file_items
from tests.data_jobs.corpus_blocks import of_files
from train_jobs.data.batches import check_documents

MOST = 1 << 20
SAME = "Hold the button for five seconds until the lamp is lit, then wait for the tone and let it go again slowly."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for path in ("all.md", "acme/plan.md", "acme/hr/pay.md", "acme/hr/deep/er/note.md", "umbrella/plan.md"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"# {path}\n\nWhat stands in {path} is about {path.replace('/', ' ')}.\n")
    say(folder / "acme", "tenant: acme\n")
    say(folder / "acme/hr", "tenant: acme\ngroups: [hr, board]\n")
    say(folder / "umbrella", "tenant: umbrella\n")
    return folder


def say(folder: Path, text: str) -> None:
    (folder / FOLDER_FILE).write_text(text)


def labels(root: Path, access: str = "") -> dict[str, str]:
    items, refused = list_files(root, MOST, access=access)
    assert not refused, "the files of labels are no part of the source"
    return {item.path: item.access for item in items}


def test_a_label_holds_for_its_folder_and_all_below_it(root: Path) -> None:
    assert labels(root) == {
        "all.md": "", "acme/plan.md": "acme", "acme/hr/pay.md": "acme:board,hr",
        "acme/hr/deep/er/note.md": "acme:board,hr", "umbrella/plan.md": "umbrella",
    }  # fmt: skip


def test_a_label_below_narrows_and_never_opens(root: Path) -> None:
    say(root / "acme/hr/deep", "tenant: acme\ngroups: [hr, staff]\n")
    assert labels(root)["acme/hr/deep/er/note.md"] == "acme:hr"
    say(root / "acme/hr/deep", "tenant: acme\n")
    assert labels(root)["acme/hr/deep/er/note.md"] == "acme:board,hr"
    for opened in ("tenant: umbrella\n", "tenant: acme\ngroups: [staff]\n"):
        say(root / "acme/hr/deep", opened)
        with pytest.raises(UsageError, match="nothing in common"):
            labels(root)


def test_labels_above_the_source_and_of_the_source_hold_too(root: Path) -> None:
    assert labels(root / "acme/hr/deep") == {"er/note.md": "acme:board,hr"}
    assert labels(root / "acme", "acme:hr,staff") == {
        "plan.md": "acme:hr,staff", "hr/pay.md": "acme:hr", "hr/deep/er/note.md": "acme:hr"
    }  # fmt: skip
    with pytest.raises(UsageError, match="nothing in common"):
        labels(root, "umbrella")


@pytest.mark.parametrize(
    "text",
    ["", "tenant acme", "tenant: [acme]", "tenant: acme\ntenant: umbrella\n", "tenant: &a acme\ngroups: [*a]\n",
     "groups: [hr]\n", "tenant: acme\ngroups: hr\n",
     "tenant: acme\nunknown: 1\n", "\x00", "tenant: !!python/name:os x\n"],
)  # fmt: skip
def test_a_file_of_labels_that_is_not_understood_stops_everything(root: Path, text: str) -> None:
    say(root / "umbrella", text)
    with pytest.raises(UsageError, match="nothing was read"):
        list_files(root, MOST)


@pytest.mark.parametrize("kind", ["link", "broken link", "folder", "pipe", "unreadable"])
def test_a_file_of_labels_that_is_no_plain_file_is_not_passed_over(root: Path, kind: str) -> None:
    path = root / "umbrella" / FOLDER_FILE
    path.unlink()
    if kind == "unreadable":
        path.write_bytes(b"tenant: \xff\xfe")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(root / "acme" / FOLDER_FILE if kind == "link" else root / "nowhere")
    with pytest.raises(UsageError, match="nothing was read"):
        list_files(root, MOST)


def test_another_label_makes_a_file_another_item(root: Path) -> None:
    before, _ = list_files(root, MOST)
    say(root, "tenant: acme\n")
    (root / "umbrella" / FOLDER_FILE).unlink()
    after, _ = list_files(root, MOST)
    changed = [old.path for old, new in zip(before, after, strict=True) if path_key(old) != path_key(new)]
    assert changed == ["all.md", "umbrella/plan.md"]
    keys = [[item.key for item in file_items(root, items, "docs")] for items in (before, after)]
    assert [a != b for a, b in zip(*keys, strict=True)] == [item.path in changed for item in after]


# -- the catalogue -----------------------------------------------------------------------------------------------------
ENTRY = """sources:
  handbook:
    location: {location}
    owner: Ann Example
    licence: MIT
    sensitivity: internal
    approved_by: Board
    approved_on: 2026-01-01
    uses: [retrieval, pretraining]
    {access}
"""


def test_a_source_of_the_catalogue_has_a_label(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(ENTRY.format(location=root / "acme", access="access: {tenant: acme, groups: [hr]}"))
    section, entry = governed(DataSection(sources=str(path), source="handbook"))
    assert (section.access, entry and entry.access) == ("acme:hr", "acme:hr")
    for wrong in (
        "access: acme",
        "access: {groups: [hr]}",
        "access: {tenant: acme, groups: []}",
        "access: {tenant: '!'}",
    ):
        path.write_text(ENTRY.format(location=root, access=wrong))
        with pytest.raises(UsageError, match=r"handbook: access"):
            load_catalogue(path)


# -- the corpus --------------------------------------------------------------------------------------------------------
def prepared(root: Path, store: Store, **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Rows of the dataset, counts of its block, ids left out as duplicates."""
    section = DataSection(min_words=1, **settings)
    items, _ = list_files(root, MOST, access=section.access)
    block = of_files(0, store, store.staging("run"), section, root, items, "docs")
    clean_block(block)
    left = find_duplicates(store, [block]).duplicates
    counts = finish_block(block)
    rows = pq.read_table(io.BytesIO(store.read(block.final_path))).to_pylist()
    return rows, counts, [one.dropped for one in left]


def test_a_dataset_carries_and_counts_labels(root: Path, tmp_path: Path) -> None:
    rows, counts, _ = prepared(root, Store(str(tmp_path / "store")))
    assert {row["id"]: row["access"] for row in rows} == labels(root)
    assert counts["access"] == {"": 1, "acme": 1, "acme:board,hr": 2, "umbrella": 1}


def test_copies_of_different_labels_are_all_kept(root: Path, tmp_path: Path) -> None:
    for number, path in enumerate(("all.md", "acme/plan.md", "acme/hr/pay.md", "umbrella/plan.md", "acme/copy.md")):
        (root / path).write_text(SAME + (" Do so with care." if number % 2 else ""))
    rows, _, dropped = prepared(root, Store(str(tmp_path / "store")), near_duplicate_jaccard=0.7)
    assert len(dropped) == 1, "the copy beside the plan of the same label, and no other"
    assert dropped[0] in ("acme/plan.md", "acme/copy.md")
    kept = [row for row in rows if row["text"].startswith("Hold the button")]
    assert sorted(row["access"] for row in kept) == ["", "acme", "acme:board,hr", "umbrella"]
    assert all(labels(root)[copy[0]] == row["access"] for row in kept for copy in row["copies"])


def test_a_dataset_with_a_damaged_label_is_refused() -> None:
    import pyarrow as pa

    row = {**Document("a", "A", "Text", "a.md", access="acme").to_dict(), "copies": []}
    good = pa.Table.from_pylist([row], schema=DOCUMENT_SCHEMA)
    DOCUMENTS.check(good, "x")
    for damaged in (None, "acme:", "!", "a b"):
        with pytest.raises(IntegrityError, match="access is a label"):
            DOCUMENTS.check(pa.Table.from_pylist([{**row, "access": damaged}], schema=DOCUMENT_SCHEMA), "x")
    DOCUMENTS.check(good.drop_columns(["access"]), "x")  # of an earlier version of this program


def test_what_encloses_a_document_is_put_before_it_only_for_its_own_readers() -> None:
    module = Document("m", "m", "The codeword is walrus.", "m.py", kind="module", access="acme:board")
    parts = [Document(f"m.{label or 'all'}", "f()", "Text.", "m.py", kind="function", part_of="m", access=label)
             for label in ("", "acme", "acme:board")]  # fmt: skip
    about = {document.access: lines for document, lines in with_enclosing([module, *parts]) if document is not module}
    assert {label: "walrus" in lines for label, lines in about.items()} == {
        "": False,
        "acme": False,
        "acme:board": True,
    }


# -- training ----------------------------------------------------------------------------------------------------------
def test_nothing_is_trained_on_documents_that_not_everybody_may_read() -> None:
    def dataset(**counts: Any) -> Manifest:
        return Manifest("datasets", "docs", "v1", "run", (), counts={"kept": 5000, **counts})

    labelled, plain = dataset(access={"": 40, "acme:hr": 2}), dataset()
    section = TrainSection(min_documents=10)
    check_use(labelled, "retrieval", DataSection())
    for allowed in (lambda: check_open(plain), lambda: check_documents(section, plain),
                    lambda: check_use(plain, "pretraining", DataSection())):  # fmt: skip
        allowed()
    for refused in (
        lambda: check_use(labelled, "pretraining", DataSection()),
        lambda: check_use(labelled, "fine-tuning", DataSection()),
        lambda: check_documents(section, plain, labelled),
    ):
        with pytest.raises(PolicyRefusedError, match="2 of its documents have access labels") as error:
            refused()
        assert error.value.extras["policy"] == "access"
    wanted = DataSection(train_labelled=True)  # for a model that keeps the labels; nothing else is made of them
    check_use(labelled, "pretraining", wanted)
    check_use(labelled, "fine-tuning", wanted)
    check_documents(section, labelled, labelled=True)
    with pytest.raises(PolicyRefusedError, match="train_labelled"):
        check_open(labelled)
