"""Reading a published dataset back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.home import Home
from cluster.core.records import Document, Manifest
from cluster.core.storage import Store
from data_jobs.corpus.contracts import DOCUMENTS
from data_jobs.corpus.parquet import read_row_group, read_table
from data_jobs.governance.tombstones import read_tombstones


def read_documents(store: Store, dataset: Manifest) -> list[Document]:
    """All documents of a verified dataset, in its order, but those that were forgotten since it was made.

    Raises:
        BadInputError: there is none.
        IntegrityError: a file is damaged; the file, and where it can be told the row group and the rule, are named.
    """
    try:
        folder = store.fetch(dataset, Home.from_env().folder("cache"))
    except IntegrityError:
        if store.local:  # the hash says which file; the contract may say where in it, and what
            for _ in _rows(Path(store.artefact(dataset)), dataset):
                continue
        raise
    forgotten = read_tombstones(store)
    rows = [d for d in _rows(folder, dataset) if not forgotten.covers(d.id, d.source_name, d.source)]
    if not rows:
        raise BadInputError(f"the dataset {dataset.name}@{dataset.version} holds no document: nothing to index")
    return rows


def remembered(store: Store, path: str) -> list[Document]:
    """The documents of one file of a dataset, but those that were forgotten since it was made."""
    forgotten = read_tombstones(store)
    documents = (Document.from_dict(row) for row in read_table(store.read(path)).to_pylist())
    return [d for d in documents if not forgotten.covers(d.id, d.source_name, d.source)]


def remembered_batches(store: Store, path: str) -> Iterator[list[Document]]:
    """The same row group by row group: a large file is never whole in memory as Python objects."""
    import io

    import pyarrow.parquet as pq

    forgotten = read_tombstones(store)
    with pq.ParquetFile(io.BytesIO(store.read(path)), page_checksum_verification=True, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            rows = read_row_group(file, group, Path(path)).to_pylist()
            documents = [Document.from_dict(row) for row in rows]
            yield [d for d in documents if not forgotten.covers(d.id, d.source_name, d.source)]


def _rows(folder: Path, dataset: Manifest) -> Iterator[Document]:
    """Documents row group by row group, each checked against the contract."""
    seen: set[str] = set()
    for name in sorted(f.path for f in dataset.files if f.path.startswith("documents-")):
        for table in DOCUMENTS.read(folder / name, seen):
            yield from (Document.from_dict(row) for row in table.to_pylist())
