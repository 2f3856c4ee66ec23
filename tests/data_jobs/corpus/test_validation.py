"""Contracts: rows that break one are refused by file, row group and rule, when written and when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.errors import IntegrityError
from cluster.core.storage import Store
from data_jobs.corpus import packs
from data_jobs.corpus.contracts import CLEANED, DOCUMENT_SCHEMA, DOCUMENTS
from data_jobs.corpus.dataset import read_documents
from data_jobs.corpus.parquet import ROW_GROUP, table_bytes
from tests.data_jobs.artefacts import dataset, document


def table(rows: int = 3, **changed: Any) -> pa.Table:
    made = [document(f"{n}.md").to_dict() for n in range(rows)]
    return pa.Table.from_pylist([*made[:-1], {**made[-1], **changed}], schema=DOCUMENT_SCHEMA)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"id": ""}, "id is present"), ({"id": None}, "id is present"), ({"text": ""}, "text is present"),
        ({"title": None}, "title is not null"), ({"title": "a\x07b"}, "title has no control characters"),
        ({"sensitivity": "secret"}, "sensitivity is one of internal, public, restricted"),
        ({"file_sha256": "abc"}, "file_sha256 is a sha256"), ({"span": [5]}, "span is a span"),
        ({"span": [9, 5]}, "span is a span"), ({"id": "0.md"}, "unique id"),
    ],
)  # fmt: skip
def test_a_row_that_breaks_a_rule_is_named(changed: dict[str, Any], rule: str) -> None:
    DOCUMENTS.check(table(), "x.parquet")
    with pytest.raises(IntegrityError) as caught:
        DOCUMENTS.check(table(**changed), "x.parquet", group=4)
    assert caught.value.extras["rule"] == rule
    assert "x.parquet:4, row 2" in caught.value.message


def test_columns_and_types() -> None:
    with pytest.raises(IntegrityError, match="column text is missing"):
        DOCUMENTS.check(table().drop_columns(["text"]), "x")
    at = DOCUMENT_SCHEMA.get_field_index("references")
    with pytest.raises(IntegrityError, match="column references is string"):
        DOCUMENTS.check(table().set_column(at, "references", pa.array(["1"] * 3)), "x")
    DOCUMENTS.check(table().drop_columns(["licence", "span"]), "x")  # an earlier version's


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(table_bytes(table()))
    seen: set[str] = set()
    assert sum(len(t) for t in DOCUMENTS.read(tmp_path / "a", seen)) == 3
    with pytest.raises(IntegrityError, match="unique id"):
        list(DOCUMENTS.read(tmp_path / "b", seen))


def test_a_flipped_bit_in_a_page_is_refused_with_its_row_group(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    path.write_bytes(table_bytes(table(2 * ROW_GROUP)))
    column = pq.ParquetFile(path).metadata.row_group(1).column(2)
    assert column.path_in_schema == "text"
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0x40
    path.write_bytes(data)
    got = []
    with pytest.raises(IntegrityError, match=r"documents\.parquet:1 ") as caught:
        got += [len(t) for t in DOCUMENTS.read(path)]
    assert caught.value.extras["rule"] == "page checksum"
    assert caught.value.extras["row_group"] == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_dataset_is_refused_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path / "home"))
    store = Store(str(tmp_path / "store"))
    made = dataset(store, [document(f"{n}.md") for n in range(50)])
    assert len(read_documents(store, made)) == 50
    path = Path(store.artefact(made)) / "documents-00000.parquet"
    data = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)  # inside a page: elsewhere only the manifest tells
    middle = column.data_page_offset + column.total_compressed_size // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    path.write_bytes({"cut": data[:-100], "flip": flipped, "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(IntegrityError, match="documents-00000") as caught:
        read_documents(store, made)
    assert "rule" in caught.value.extras


def test_a_block_is_not_stored_if_a_row_is_wrong() -> None:
    writer = packs.PackWriter(CLEANED)
    extra = {"exact": "0" * 64, "group": "", "minhash": bytes(512), "words": 1, "pii": []}
    writer.add("good", packs.CleanedItem(rows=[{**document("a.md").to_dict(), **extra}]))
    assert writer.to_bytes()
    writer.add("bad", packs.CleanedItem(rows=[{**document("b.md").to_dict(), **extra, "minhash": b"short"}]))
    with pytest.raises(IntegrityError, match="minhash has 512 bytes"):
        writer.to_bytes()
