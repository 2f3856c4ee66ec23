"""Reading a published dataset back."""

from __future__ import annotations

from cluster.core.errors import BadInputError
from cluster.core.home import Home
from cluster.core.records import Document, Manifest
from cluster.core.storage import Store
from data_jobs.parquet import read_table


def read_documents(store: Store, dataset: Manifest) -> list[Document]:
    """All documents of a verified dataset, in its order.

    Raises:
        BadInputError: there is none.
    """
    folder = store.fetch(dataset, Home.from_env().folder("cache"))
    names = sorted(f.path for f in dataset.files if f.path.startswith("documents-"))
    rows = [row for name in names for row in read_table(folder / name).to_pylist()]
    if not rows:
        raise BadInputError(f"the dataset {dataset.name}@{dataset.version} holds no document: nothing to index")
    return [Document.from_dict(row) for row in rows]
