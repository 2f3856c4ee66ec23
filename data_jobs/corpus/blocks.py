"""The work on one block of a corpus, as plain functions from stored bytes to stored bytes (ray-free).

A corpus is prepared in two passes over blocks that follow from its files alone, with one step between them::

    clean_block      items -> documents: read, extract, clean (see clean.py)     cache/clean/<name>/.../<key>.parquet
    find_duplicates  all sketches -> who is dropped for whom, who was forgotten     <staging>/duplicates/00007.json
    finish_block     documents -> the kept ones                          <staging>/dataset/documents-00007.parquet

Each output is written atomically and depends on nothing but its inputs, so a block that is there is a block that is
done, whoever made it and whenever. Cleaning is the work; its outcome is kept per file (``packs``), and what did not
change is read back. Text is redacted before anything is stored: neither staging nor the cache holds what was found.
"""

from __future__ import annotations

import json
import posixpath
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa

from cluster.core.errors import IntegrityError
from cluster.core.records import CODE_KINDS, Document, Dropped, Quarantined
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store, storage_errors
from data_jobs.corpus import packs
from data_jobs.corpus.clean import FORGOTTEN, CleaningRules, clean_records, is_forgotten
from data_jobs.corpus.contracts import (
    CLEAN_SCHEMA,
    CLEANED,
    DOCUMENT_SCHEMA,
    DOCUMENTS,
    DROPPED_SCHEMA,
    QUARANTINE_SCHEMA,
)
from data_jobs.corpus.parquet import parquet_bytes, read_table, table_bytes
from data_jobs.extractors.protocol import SKIPPED
from data_jobs.extractors.registry import format_of
from data_jobs.filters.decontaminate import evaluation_sets
from data_jobs.filters.dedup import Duplicate, Fingerprint, deduplicate
from data_jobs.governance.tombstones import Tombstones, read_tombstones
from data_jobs.sources.protocol import SourceItem
from data_jobs.sources.registry import SOURCES
from data_jobs.text.questions import clean_questions

# Blocks grow with the corpus up to this size, then there are more of them: a worker's memory stays the same.
BLOCK_BYTES = 4 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class CorpusBlock:
    """One block of work: some items of a source, and where what is made of them goes.

    Attributes:
        index: its number in the corpus.
        store: URI of the store; ``staging`` is the run's folder in it.
        source: kind of the source that reads the items (``sources.registry.SOURCES``).
        pack: where the outcome of cleaning is kept, by default in ``staging``.
        reuse: packs of earlier runs that hold some of the items.
    """

    index: int
    store: str
    staging: str
    section: DataSection
    source: str
    items: tuple[SourceItem, ...]
    pack: str = ""
    reuse: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The block as JSON, to travel to a worker."""
        return json.dumps({**asdict(self), "section": self.section.model_dump()})

    @classmethod
    def from_json(cls, text: str) -> CorpusBlock:
        """The block that ``to_json`` wrote."""
        row = json.loads(text)
        row["section"] = DataSection(**row["section"])
        row["items"] = tuple(SourceItem(**item) for item in row["items"])
        row["reuse"] = tuple(row["reuse"])
        return cls(**row)

    @property
    def clean_path(self) -> str:
        """Where the outcome of the first pass is."""
        return self.pack or posixpath.join(self.staging, "clean", f"{self.index:05d}.parquet")

    @property
    def final_path(self) -> str:
        """Where the block's part of the dataset is; there is none where nothing of it was kept."""
        return posixpath.join(self.staging, "dataset", f"documents-{self.index:05d}.parquet")

    @property
    def duplicates_path(self) -> str:
        """Where the step between the passes says who of the block is left out."""
        return posixpath.join(self.staging, "duplicates", f"{self.index:05d}.json")

    @property
    def counts_path(self) -> str:
        """Where the counts of the second pass are."""
        return posixpath.join(self.staging, "finished", f"{self.index:05d}.json")

    def keys(self) -> list[str]:
        """The items' keys, in order."""
        return [item.key for item in self.items]


# -- first pass --------------------------------------------------------------------------------------------------------
def clean_block(block: CorpusBlock) -> dict[str, int]:
    """Clean the items of one block that no earlier run did; stores the outcome and returns its counts."""
    store = Store(block.store)
    keys, rules = (
        block.keys(),
        CleaningRules(block.section, read_tombstones(store), evaluation_sets(store, block.section)),
    )
    known = packs.pick(store, block.reuse, keys, CLEAN_SCHEMA)
    writer = packs.PackWriter(CLEANED)
    source = SOURCES[block.source]
    for item in block.items:
        if item.key in known:
            writer.take_over(known[item.key])
        else:
            records = _marked(source.records(item, block.section), block.section)
            writer.add(item.key, clean_records(records, rules))
    store.write(block.clean_path, writer.to_bytes())
    return {"items": len(keys), "documents": writer.documents, "reused": len(known)}


def _marked(records: Iterable[Document | Quarantined], section: DataSection) -> Iterator[Document | Quarantined]:
    """Each document with what its source declares; a record that says more keeps it."""
    for record in records:
        if isinstance(record, Document):
            yield replace(
                record, licence=record.licence or section.licence, owner=record.owner or section.owner,
                sensitivity=record.sensitivity or section.sensitivity, access=record.access or section.access,
            )  # fmt: skip
        else:
            yield record


# -- between the passes ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class CleanedCorpus:
    """The outcome of the first pass without texts and sketches."""

    kept: int
    duplicates: list[Duplicate]
    sources: dict[str, str] = field(repr=False)
    dropped: list[Dropped] = field(repr=False)
    quarantined: list[Quarantined] = field(repr=False)

    def left_out(self) -> list[Dropped]:
        """Everything filtered, forgotten or dropped as a duplicate, sorted by document."""
        duplicates = [
            Dropped(d.dropped, self.sources[d.dropped], "duplicate", d.reason, d.kept, d.similarity)
            for d in self.duplicates
        ]
        return sorted([*self.dropped, *duplicates], key=lambda d: (d.document, d.source))


def find_duplicates(store: Store, blocks: Sequence[CorpusBlock], forgotten: Tombstones | None = None) -> CleanedCorpus:
    """Read all sketches, leave out duplicates and what was forgotten, and store for each block who is left out.

    Texts wait in a temporary file: they are looked at for candidates only, and a corpus need not fit into memory.
    A pack that cannot be read is made again.
    """
    forgotten = read_tombstones(store) if forgotten is None else forgotten
    asked: dict[str, list[str]] = {}
    gone: dict[int, list[str]] = {block.index: [] for block in blocks}
    dropped: list[Dropped] = []
    quarantined: list[Quarantined] = []

    def sketches(texts: _Texts) -> Iterator[Fingerprint]:
        for block in blocks:
            table, entries = cleaned_rows(store, block)
            dropped.extend(Dropped.from_dict(row) for entry in entries for row in entry["dropped"])
            quarantined.extend(Quarantined.from_dict(row) for entry in entries for row in entry["quarantined"])
            for row in _without_more(table):
                document = Document.from_dict({name: row[name] for name in DOCUMENT_SCHEMA.names})
                if is_forgotten(document, forgotten):
                    dropped.append(Dropped(document.id, document.source, "filtered", FORGOTTEN))
                    gone[block.index].append(document.id)
                    continue
                texts.add(document, block.index)
                if document.questions:
                    asked[document.id] = list(document.questions)
                rank = (-len(document.text), document.id.count("."), len(document.id), document.id)
                yield Fingerprint(
                    document.id, row["group"], row["exact"], row["minhash"], rank, row["subject"], row["numbers"]
                )  # fmt: skip

    inherited: dict[int, list[dict[str, Any]]] = {block.index: [] for block in blocks}
    with _Texts() as texts:
        threshold = blocks[0].section.near_duplicate_jaccard if blocks else 1.0
        duplicates = deduplicate(sketches(texts), texts.read, threshold)
        left = {one.dropped: texts.source(one.dropped) for one in duplicates}
        for one in duplicates:
            gone[texts.block(one.dropped)].append(one.dropped)
            about = {"title": texts.title(one.dropped), "source": left[one.dropped]}
            inherited[texts.block(one.kept)].append({**asdict(one), **about, "questions": asked.get(one.dropped, [])})
        kept = len(texts) - len(duplicates)
    for block in blocks:
        body = {"gone": gone[block.index], "inherited": inherited[block.index]}
        store.write(block.duplicates_path, json.dumps(body).encode())
    return CleanedCorpus(kept, duplicates, left, dropped, quarantined)


def cleaned_rows(store: Store, block: CorpusBlock) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The outcome of a block's first pass; a damaged one is made again.

    Raises:
        IntegrityError: it cannot be read even then.
    """
    found = packs.read(store, block.clean_path)
    if found is None:
        clean_block(block)
        found = packs.read(store, block.clean_path)
    if found is None:
        raise IntegrityError(f"{block.clean_path} cannot be read back after it was written: check the disk")
    return found


def read_rows(store: Store, path: str) -> list[dict[str, Any]]:
    """The rows of a small file of a run; none where it was not written."""
    rows: list[dict[str, Any]] = read_table(store.read(path)).to_pylist() if store.exists(path) else []
    return rows


def _without_more(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table, a few at a time as Python values."""
    for batch in table.to_batches(max_chunksize=256):
        yield from batch.to_pylist()


class _Texts:
    """Texts, sources and titles by id in a temporary file, and which block each is of."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._row: dict[str, int] = {}
        self._block = array("q")
        self._at = array("q", [0])  # of text, source, title, text ... and the end

    def __enter__(self) -> _Texts:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._row)

    def add(self, document: Document, block: int) -> None:
        self._row[document.id] = len(self._row)
        self._block.append(block)
        for text in (document.text, document.source, document.title):
            data = text.encode("utf-8", "surrogatepass")
            with storage_errors(tempfile.gettempdir()):
                self._file.write(data)
            self._at.append(self._at[-1] + len(data))

    def block(self, name: str) -> int:
        return self._block[self._row[name]]

    def read(self, name: str) -> str:
        return self._part(3 * self._row[name])

    def source(self, name: str) -> str:
        return self._part(3 * self._row[name] + 1)

    def title(self, name: str) -> str:
        return self._part(3 * self._row[name] + 2)

    def _part(self, number: int) -> str:
        self._file.seek(self._at[number])
        return self._file.read(self._at[number + 1] - self._at[number]).decode("utf-8", "surrogatepass")


# -- second pass -------------------------------------------------------------------------------------------------------
def finish_block(block: CorpusBlock) -> dict[str, Any]:
    """Take out duplicates; stores the block's part of the dataset and returns its counts.

    Only code objects inherit the names of their duplicates: a file's path is where it is, not what it is called. The
    questions that a duplicate answers, the one that is kept answers too, and it holds where each of them was.
    """
    store = Store(block.store)
    known = store.read_json(block.duplicates_path)
    gone = set(known["gone"])
    asked: dict[str, list[str]] = {}
    names: dict[str, set[str]] = {}
    copies: dict[str, list[list[str]]] = {}
    for row in known["inherited"]:
        copies.setdefault(row["kept"], []).append([row["dropped"], row["title"], row["source"]])
        asked.setdefault(row["kept"], []).extend(row["questions"])
        names.setdefault(row["kept"], set()).add(row["dropped"])
    pii: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    access: Counter[str] = Counter()
    words, questions, documents = 0, 0, []
    for row in _without_more(cleaned_rows(store, block)[0]):
        if row["id"] in gone:
            continue
        pii.update(row["pii"])
        skipped.update(_skipped(row["id"], row["steps"]))
        words += row["words"]
        access[row["access"]] += 1
        document = {name: row[name] for name in DOCUMENT_SCHEMA.names}
        document["copies"] = sorted(copies.get(row["id"], ()))
        if row["id"] in asked:
            document["questions"] = list(clean_questions((*row["questions"], *asked[row["id"]])))
        if row["id"] in names and row["kind"] in CODE_KINDS:
            document["aliases"] = sorted({*row["aliases"], *names[row["id"]]})
        questions += len(document["questions"])
        documents.append(document)
    if documents:
        whole = pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA)
        DOCUMENTS.check(whole, block.final_path)
        store.write(block.final_path, table_bytes(whole))
    counts: dict[str, Any] = {"documents": len(documents), "words": words, "questions": questions}
    counts |= {"pii": dict(sorted(pii.items())), "skipped": dict(sorted(skipped.items()))}
    counts["access"] = dict(sorted(access.items()))
    store.write(block.counts_path, json.dumps(counts).encode())
    return counts


def _skipped(document: str, steps: Iterable[str]) -> dict[str, int]:
    """What its extractor left out of a document, ``FORMAT KIND`` -> how many."""
    found: dict[str, int] = {}
    for step in steps:
        if step.startswith(SKIPPED):
            kind, _, count = step.removeprefix(SKIPPED).rpartition(":")
            name = f"{format_of(document)} {kind}"
            found[name] = found.get(name, 0) + int(count)
    return found


def finished_counts(store: Store, block: CorpusBlock) -> dict[str, Any] | None:
    """The counts of a block that went through the second pass, or None.

    A run that died while it published has the counts but no longer the file: that block is not finished.
    """
    if not store.exists(block.counts_path):
        return None
    counts: dict[str, Any] = store.read_json(block.counts_path)
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


def number_of_blocks(section: DataSection, sizes: Sequence[int]) -> int:
    """Into how many blocks items of these sizes are cut. Depends on nothing else."""
    return max(section.blocks, -(-sum(sizes) // BLOCK_BYTES))


def with_packs(blocks: Sequence[CorpusBlock], name: str, settings: str, store: Store) -> tuple[list[CorpusBlock], int]:
    """The blocks with the places of their outcomes and of those to read back, and how many items need no cleaning.

    ``settings`` is the key of everything that decides what becomes of an item, but the item.
    """
    known = packs.locations(store, name, settings)
    made, reused = [], 0
    for block in blocks:
        keys = block.keys()
        reused += sum(key in known for key in keys)
        found = tuple(sorted({known[key] for key in keys if key in known}))
        made.append(replace(block, pack=packs.path(store, name, settings, keys), reuse=found))
    return made, reused


__all__ = [
    "CLEAN_SCHEMA",
    "DOCUMENT_SCHEMA",
    "DROPPED_SCHEMA",
    "QUARANTINE_SCHEMA",
    "CleanedCorpus",
    "CorpusBlock",
    "clean_block",
    "cleaned_rows",
    "find_duplicates",
    "finish_block",
    "finished_counts",
    "number_of_blocks",
    "parquet_bytes",
    "read_rows",
    "split",
    "with_packs",
]  # fmt: skip
