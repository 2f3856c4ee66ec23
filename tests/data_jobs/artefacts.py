"""Small published artefacts for tests: datasets, indexes and what is made of them, without Ray."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.records import Document, Dropped, Manifest
from cluster.core.storage import Store
from data_jobs.corpus.blocks import DOCUMENT_SCHEMA, DROPPED_SCHEMA
from data_jobs.corpus.parquet import parquet_bytes


def document(name: str, text: str = "", source_name: str = "notes", **more: object) -> Document:
    text = text or f"What {name} says, at some length, about nothing in particular."
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Document(name, name, text, name, source_name, file_sha256=digest, span=(0, len(text)), **more)  # type: ignore[arg-type]


def reference(manifest: Manifest) -> str:
    return f"{manifest.name}@{manifest.version}"


def dataset(
    store: Store, documents: Sequence[Document], name: str = "notes", dropped: Sequence[Dropped] = ()
) -> Manifest:
    staging = store.staging(f"dataset-{name}")
    rows = [d.to_dict() for d in documents]
    store.write(f"{staging}/documents-00000.parquet", parquet_bytes(rows, DOCUMENT_SCHEMA))
    store.write(f"{staging}/dropped.parquet", parquet_bytes([d.to_dict() for d in dropped], DROPPED_SCHEMA))
    made = store.publish(
        "datasets",
        name,
        staging,
        run_key=f"d{len(rows)}{name}",
        inputs={"source": "/somewhere"},
        config={"code": "c0de"},
    )
    store.move_alias("datasets", name, "latest", made.version, why="test")
    return made


def index(store: Store, of: Manifest, documents: Sequence[str], name: str = "main") -> Manifest:
    staging = store.staging(f"index-{name}")
    folder = Path(staging) / "segments" / "one"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"document": pa.array(list(documents), pa.string())}), folder / "chunks.parquet")
    made = store.publish("indexes", name, staging, run_key=f"i{of.version}", inputs={"dataset": reference(of)})
    store.move_alias("indexes", name, "live", made.version, why="test")
    return made


def made_of(store: Store, kind: str, name: str, **inputs: Manifest) -> Manifest:
    staging = store.staging(f"{kind}-{name}")
    body = {"of": {role: reference(m) for role, m in inputs.items()}, "kind": kind}
    store.write(f"{staging}/content.json", json.dumps(body).encode())
    return store.publish(
        kind, name, staging, run_key=f"{kind}{name}", inputs={role: reference(m) for role, m in inputs.items()}
    )
