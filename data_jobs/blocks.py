"""The work on one block of a corpus, as plain functions from stored bytes to stored bytes (ray-free).

A corpus is prepared in two passes over a fixed number of blocks, with one deduplication step between them::

    clean_block      items -> documents: read, extract, normalise, judge, sketch   <staging>/clean/00007.parquet
    find_duplicates  all sketches -> who is dropped for whom                       <staging>/duplicates.json
    finish_block     documents -> the kept ones, redacted                 <staging>/dataset/documents-00007.parquet

Each output is written atomically and depends on nothing but its inputs, so a block that is there is a block that is
done, whoever made it and whenever.
"""

from __future__ import annotations

import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.config import DataSection
from cluster.core.records import Document, Dropped, Quarantined
from cluster.core.storage import Store
from data_jobs.dedup import Duplicate, Fingerprint, deduplicate, fingerprint
from data_jobs.extract import clean_title, read_records
from data_jobs.parquet import read_table
from data_jobs.pii import redact
from data_jobs.quality import count_words, judge
from data_jobs.questions import clean_questions
from data_jobs.sources.files import FileItem
from data_jobs.text import normalise

DOCUMENT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "title", "text", "source", "source_name", "kind", "signature")]
    + [("aliases", pa.list_(pa.string())), ("part_of", pa.string()), ("references", pa.int64())]
    + [("questions", pa.list_(pa.string()))]
    + [(name, pa.string()) for name in ("licence", "owner", "sensitivity", "language", "file_sha256")]
    + [("span", pa.list_(pa.int64())), ("steps", pa.list_(pa.string()))]
)
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("source", "record", "reason", "detail")])
DROPPED_SCHEMA = pa.schema([(name, pa.string()) for name in ("document", "source", "stage", "reason", "kept")])
_SKETCH_FIELDS = [("exact", pa.string()), ("group", pa.string()), ("minhash", pa.binary())]
CLEAN_SCHEMA = pa.schema([*DOCUMENT_SCHEMA, *_SKETCH_FIELDS])
T = TypeVar("T")
# What a block leaves out travels in the file's metadata, so that one atomic write holds the whole outcome.
_OUTCOME = b"plinth.outcome"


@dataclass(frozen=True)
class Block:
    """One block of work: files to read below ``root``, or documents already extracted (``documents``)."""

    index: int
    store: str
    staging: str
    section: DataSection
    source_name: str
    root: str = ""
    files: tuple[FileItem, ...] = ()
    documents: tuple[Document, ...] = ()

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "section": self.section.model_dump()})

    @classmethod
    def from_json(cls, text: str) -> Block:
        row = json.loads(text)
        row["section"] = DataSection(**row["section"])
        row["files"] = tuple(FileItem(**f) for f in row["files"])
        row["documents"] = tuple(Document.from_dict(d) for d in row["documents"])
        return cls(**row)

    @property
    def clean_path(self) -> str:
        return posixpath.join(self.staging, "clean", f"{self.index:05d}.parquet")

    @property
    def final_path(self) -> str:
        return posixpath.join(self.staging, "dataset", f"documents-{self.index:05d}.parquet")


def parquet_bytes(
    rows: Sequence[dict[str, Any]], schema: pa.Schema, metadata: dict[bytes, bytes] | None = None
) -> bytes:
    """Rows as a Parquet file; the same rows give the same bytes."""
    table = pa.Table.from_pylist(list(rows), schema=schema.with_metadata(metadata))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


# -- first pass --------------------------------------------------------------------------------------------------------
def clean_block(block: Block) -> dict[str, int]:
    """Read, normalise, judge and sketch one block; stores the outcome and returns its counts."""
    rows: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    quarantined: list[Quarantined] = []
    for record in _records(block):
        if isinstance(record, Quarantined):
            quarantined.append(record)
            continue
        document = replace(
            record,
            title=clean_title(normalise(record.title)),
            text=normalise(record.text),
            questions=clean_questions(record.questions),
        )
        judgement = judge(document.text, block.section.min_words)
        if not judgement.keep:
            dropped.append(Dropped(document.id, document.source, "filtered", judgement.reason))
            continue
        sketch = fingerprint(document)
        rows.append({**document.to_dict(), "exact": sketch.exact, "group": sketch.group, "minhash": sketch.minhash})
    outcome = {"dropped": [d.to_dict() for d in dropped], "quarantined": [q.to_dict() for q in quarantined]}
    data = parquet_bytes(rows, CLEAN_SCHEMA, {_OUTCOME: json.dumps(outcome).encode()})
    Store(block.store).write(block.clean_path, data)
    return {"items": len(block.files) or len(block.documents), "documents": len(rows)}


def _records(block: Block) -> Iterable[Document | Quarantined]:
    limits = (block.section.max_file_mb << 20, block.section.max_line_kb << 10)
    yield from block.documents
    for file in block.files:
        yield from read_records(Path(block.root), file, block.source_name, limits)


# -- between the passes ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Cleaned:
    """The outcome of the first pass without the texts' sketches."""

    kept: int
    duplicates: list[Duplicate]
    sources: dict[str, str]
    dropped: list[Dropped]
    quarantined: list[Quarantined]

    def left_out(self) -> list[Dropped]:
        """Everything filtered or dropped as a duplicate, sorted by document."""
        duplicates = [
            Dropped(d.dropped, self.sources[d.dropped], "duplicate", d.reason, d.kept) for d in self.duplicates
        ]
        return sorted([*self.dropped, *duplicates], key=lambda d: (d.document, d.source))


def find_duplicates(store: Store, blocks: Sequence[Block]) -> Cleaned:
    """Read all sketches, drop duplicates, and store who is dropped for whom for the second pass."""
    sketches: list[Fingerprint] = []
    texts: dict[str, str] = {}
    sources: dict[str, str] = {}
    asked: dict[str, list[str]] = {}
    dropped: list[Dropped] = []
    quarantined: list[Quarantined] = []
    for block in blocks:
        table = _read(store, block.clean_path)
        outcome = json.loads(table.schema.metadata[_OUTCOME])
        dropped += [Dropped.from_dict(row) for row in outcome["dropped"]]
        quarantined += [Quarantined.from_dict(row) for row in outcome["quarantined"]]
        columns = table.select(["id", "text", "source", "exact", "group", "minhash", "questions"]).to_pylist()
        for row in columns:
            texts[row["id"]], sources[row["id"]], asked[row["id"]] = row["text"], row["source"], row["questions"]
            rank = (-len(row["text"]), row["id"].count("."), len(row["id"]), row["id"])
            sketches.append(Fingerprint(row["id"], row["group"], row["exact"], row["minhash"], rank))
    duplicates = deduplicate(sketches, texts.__getitem__, blocks[0].section.near_duplicate_jaccard) if blocks else []
    if blocks:
        body = json.dumps([{**asdict(d), "questions": asked[d.dropped]} for d in duplicates]).encode()
        store.write(posixpath.join(blocks[0].staging, "duplicates.json"), body)
    return Cleaned(len(sketches) - len(duplicates), duplicates, sources, dropped, quarantined)


def _read(store: Store, path: str) -> pa.Table:
    return read_table(store.read(path))


# -- second pass -------------------------------------------------------------------------------------------------------
def finish_block(block: Block) -> dict[str, Any]:
    """Take out duplicates and personal data; stores the block's part of the dataset and returns its counts.

    Only code objects inherit the names of their duplicates: a file's path is where it is, not what it is called. The
    questions that a duplicate answers, the one that is kept answers too.
    """
    store = Store(block.store)
    asked: dict[str, list[str]] = {}
    duplicates = []
    for row in store.read_json(posixpath.join(block.staging, "duplicates.json")):
        asked.setdefault(row["kept"], []).extend(row.pop("questions"))
        duplicates.append(Duplicate(**row))
    gone = {d.dropped for d in duplicates}
    rows = [row for row in _read(store, block.clean_path).to_pylist() if row["id"] not in gone]
    inherited: dict[str, set[str]] = {row["id"]: set() for row in rows if row["kind"] not in ("file", "record")}
    for duplicate in duplicates:
        if duplicate.kept in inherited:
            inherited[duplicate.kept].add(duplicate.dropped)
    pii: Counter[str] = Counter()
    words, questions, documents = 0, 0, []
    for row in rows:
        text, found = redact(row["text"])
        title, in_title = redact(row["title"])
        redacted = [redact(question) for question in (*row["questions"], *asked.get(row["id"], ()))]
        pii.update(finding.type for finding in (*found, *in_title, *(f for _, more in redacted for f in more)))
        known = clean_questions(question for question, _ in redacted)
        questions += len(known)
        words += count_words(text)
        aliases = sorted({*row["aliases"], *inherited.get(row["id"], ())})
        changed = {"text": text, "title": title, "aliases": aliases, "questions": known}
        documents.append({name: row[name] for name in DOCUMENT_SCHEMA.names} | changed)
    if documents:
        store.write(block.final_path, parquet_bytes(documents, DOCUMENT_SCHEMA))
    counts = {
        "documents": len(documents),
        "words": words,
        "questions": questions,
        "pii": dict(sorted(pii.items())),
    }
    store.write(_counts_path(block), json.dumps(counts).encode())
    return counts


def _counts_path(block: Block) -> str:
    return posixpath.join(block.staging, "finished", f"{block.index:05d}.json")


def is_cleaned(store: Store, block: Block) -> bool:
    return store.exists(block.clean_path)


def finished_counts(store: Store, block: Block) -> dict[str, Any] | None:
    """The counts of a block that went through the second pass, or None.

    A run that died while it published has the counts but no longer the file: that block is not finished.
    """
    if not store.exists(_counts_path(block)):
        return None
    counts: dict[str, Any] = store.read_json(_counts_path(block))
    return counts if not counts["documents"] or store.exists(block.final_path) else None


# -- blocks ------------------------------------------------------------------------------------------------------------
def split(items: Sequence[T], sizes: Sequence[int], blocks: int) -> list[list[T]]:
    """Cut ``items`` into at most ``blocks`` runs of about equal total size. Depends on nothing else."""
    total, before = sum(sizes) or 1, 0
    parts: list[list[T]] = [[] for _ in range(min(blocks, len(items)))]
    for item, size in zip(items, sizes, strict=True):
        parts[min(len(parts) - 1, before * len(parts) // total)].append(item)
        before += size
    return [part for part in parts if part]
