"""The work on one part of a synthetic data set, from stored bytes to stored bytes (ray-free).

A part is one documents file of the dataset, so parts depend on the dataset only. Two passes with a choice between::

    make_part     documents -> candidates that passed the filters     <staging>/candidates/00007.parquet
    choose        ids, keys and hashes of all candidates -> the ids to keep
    finish_part   candidates -> the chosen rows                       <staging>/dataset/rows-00007.parquet

Each output is written atomically and depends on its inputs only: a part that is there is done.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.core.records import Document
from cluster.core.storage import Store
from data_jobs.corpus.dataset import remembered
from data_jobs.corpus.parquet import parquet_bytes, read_table
from data_jobs.synthetic.rows import Candidate, Settings, answer_key, key_of, make, survey

_NUMBERS = ("start", "end", "passage_start", "passage_end", "seed")
_TEXTS = (
    "id", "kind", "form", "text", "answer", "passage", "document", "title", "source", "source_name", "rule", "licence",
    "owner", "sensitivity", "language",
)  # fmt: skip
ROW_SCHEMA = pa.schema([(name, pa.string()) for name in _TEXTS] + [(name, pa.int64()) for name in _NUMBERS])
_CHOICE = ("key", "answer_key")
CANDIDATE_SCHEMA = pa.schema([*ROW_SCHEMA, *((name, pa.string()) for name in _CHOICE)])
_LEFT_OUT = b"plinth.left_out"


@dataclass(frozen=True)
class Part:
    """Part ``index``: the documents file at ``path``, work in progress below ``staging``."""

    index: int
    store: str
    path: str
    staging: str

    @property
    def candidates_path(self) -> str:
        """Where the rows made of the part wait for the choice."""
        return posixpath.join(self.staging, "candidates", f"{self.index:05d}.parquet")

    @property
    def final_path(self) -> str:
        """Where the part's chosen rows go."""
        return posixpath.join(self.staging, "dataset", f"rows-{self.index:05d}.parquet")


def documents_of(part: Part) -> list[Document]:
    """Those that were not forgotten."""
    return remembered(Store(part.store), part.path)


def survey_part(part: Part) -> tuple[int, Counter[str]]:
    """Number of real documents, and in how many each index term stands."""
    return survey(documents_of(part))


def make_part(part: Part, settings: Settings) -> int:
    """Make and store the part's candidates; returns the number of documents read."""
    documents = documents_of(part)
    rows, left_out = make(documents, settings)
    table = [{**row.to_dict(), "key": key_of(row), "answer_key": answer_key(row)} for row in rows]
    metadata = {_LEFT_OUT: json.dumps(dict(sorted(left_out.items()))).encode()}
    Store(part.store).write(part.candidates_path, parquet_bytes(table, CANDIDATE_SCHEMA, metadata))
    return len(documents)


def read_candidates(part: Part) -> tuple[list[Candidate], dict[str, int]]:
    """What choosing needs of a part's candidates, without their texts; and what its filters left out."""
    columns = ["id", "key", "answer_key", "document", "rule"]
    table = read_table(Store(part.store).read(part.candidates_path), columns)
    found = [
        Candidate(row["id"], row["key"], row["answer_key"], row["document"], row["rule"] != "keywords")
        for row in table.to_pylist()
    ]
    return found, json.loads((table.schema.metadata or {}).get(_LEFT_OUT, b"{}"))


def finish_part(part: Part, kept: Sequence[str]) -> dict[str, Any]:
    """Store the chosen rows of a part; returns how many, by form and rule."""
    store, wanted = Store(part.store), set(kept)
    table = read_table(store.read(part.candidates_path), ROW_SCHEMA.names)
    rows = [row for row in table.to_pylist() if row["id"] in wanted]
    if rows:
        store.write(part.final_path, parquet_bytes(rows, ROW_SCHEMA))
    return {
        "rows": len(rows),
        "documents": len({row["document"] for row in rows}),
        "forms": dict(Counter(row["form"] for row in rows)),
        "rules": dict(Counter(f"{row['form']}:{row['rule']}" for row in rows)),
    }
