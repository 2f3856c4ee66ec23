"""Segments: the immutable parts an index version is made of.

A segment is a folder named by the hash of its files: ``chunks.parquet`` (one row per chunk, with its document's aliases
and, in a document's first chunk, the questions it answers), ``units.parquet`` (what each vector embeds: a chunk, a
sentence or a question of it), ``vectors.npy`` (float16 [units, dim], L2-normalised), ``keys.npy`` (hashes of the
embedded texts, so that a later build embeds only what is new), and where there are many chunks or questions
``dense.faiss`` and ``dense_questions.faiss``. They hold no times, hosts or random ids: equal inputs give equal bytes.

``meta.json`` of a version lists its segments in order, each with the documents that no longer count in it because they
were deleted or stand, newer, in a later segment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cluster.core.errors import IncompatibleError, IntegrityError
from cluster.core.records import Chunk
from data_jobs.corpus.parquet import read_table
from data_jobs.retrieval.dense import DenseIndex, is_large
from data_jobs.text.chunks import embedded_text

# 8: ``Chunk.findings`` and ``scanned``. 7: ``Chunk.access``, which earlier formats have not.
# 6: ``Chunk.also``. 5: vectors of sentences are pooled from their chunk's, and ``Chunk.header`` is there. 4 is
# searched, not continued.
FORMAT, LABELLED = 8, 7
READABLE, CONTINUED = (4, 5, 6, 7, 8), (5, 6, 7, 8)
CHUNK, SENTENCE, QUESTION = 0, 1, 2
DENSE_FILES = {CHUNK: "dense.faiss", QUESTION: "dense_questions.faiss"}
META = "meta.json"
KEY_BYTES = 16
_COLUMNS = ("chunk", "kind", "start", "end")
_PARTS = {
    "vectors.npy": "vectors", "chunks.parquet": "texts", "units.parquet": "places", "keys.npy": "keys",
    **dict.fromkeys(DENSE_FILES.values(), "dense"),
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """One embedded text: ``kind`` CHUNK (context and text), SENTENCE or QUESTION; offsets are in the document's text,
    of a QUESTION ``[n, n + 1)`` for the chunk's n-th."""

    chunk: int
    kind: int
    start: int
    end: int


@dataclass(frozen=True)
class SegmentRef:
    """A segment as a version uses it.

    Attributes:
        id: hash of its files, and the name of its folder.
        chunks, documents: what it holds, ``gone`` included.
        gone: ids of its documents that do not count (any more), sorted.
    """

    id: str
    chunks: int
    documents: int
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Meta:
    """What ``meta.json`` says: which embedder, and which segments in which order."""

    embedder: dict[str, Any]
    fingerprint: str
    dim: int
    segments: tuple[SegmentRef, ...] = ()
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write it into an index folder by one rename; the folder is an index from then on."""
        rows = [{**vars(ref), "gone": list(ref.gone)} for ref in self.segments]
        body = {**vars(self), "segments": rows}
        temporary = folder / f"{META}.tmp"
        temporary.write_text(json.dumps(body, indent=1, sort_keys=True))
        os.replace(temporary, folder / META)

    @property
    def labelled(self) -> bool:
        """Whether its chunks carry access labels, empty ones at least."""
        return self.format >= LABELLED

    @classmethod
    def read(cls, folder: Path, version: str) -> Meta:
        """Raises IncompatibleError where it is of a format that cannot be read."""
        body = json.loads((folder / META).read_text())
        if body["format"] not in READABLE:
            raise IncompatibleError(f"index {version} has a format that this program does not read")
        refs = tuple(SegmentRef(**{**row, "gone": tuple(row["gone"])}) for row in body.pop("segments"))
        return cls(**body, segments=refs)


@dataclass
class Segment:
    """A loaded segment.

    Attributes:
        chunks, aliases, questions: every chunk, the aliases of its document and its questions, same lengths.
        units: int32 [4, units]: chunk (a row of this segment), kind, start, end.
        vectors: float16 [units, dim].
        keys: uint8 [units, KEY_BYTES], hashes of the embedded texts.
        dense: by kind of unit, the stored index over its vectors.
        counted: the lexical index's counts of this segment, kept by who makes them (``lexical.count``).
    """

    id: str
    chunks: list[Chunk]
    aliases: list[tuple[str, ...]]
    questions: list[tuple[str, ...]]
    units: np.ndarray
    vectors: np.ndarray
    keys: np.ndarray
    dense: dict[int, DenseIndex] = field(default_factory=dict)
    counted: Any = None

    @classmethod
    def load(cls, folder: Path, labelled: bool = False) -> Segment:
        """Read a segment whose bytes were verified; ``labelled``: it says of each chunk who may read it.

        Raises:
            IntegrityError: files that contradict each other.
        """
        table = read_table(folder / "chunks.parquet")
        if labelled and "access" not in table.schema.names:
            raise IntegrityError(f"segment {folder.name} does not say who may read its chunks")
        aliases, questions = (
            [tuple(values) for values in table.column(name).to_pylist()] for name in ("aliases", "questions")
        )
        chunks = [Chunk.from_dict(row) for row in table.drop_columns(["aliases", "questions"]).to_pylist()]
        rows = read_table(folder / "units.parquet")
        units = np.stack([rows.column(name).to_numpy().astype(np.int32) for name in _COLUMNS])
        vectors = np.load(folder / "vectors.npy", allow_pickle=False)
        keys = np.load(folder / "keys.npy", allow_pickle=False)
        if not len(vectors) == len(keys) == units.shape[1] or (len(vectors) and units[0].max() >= len(chunks)):
            raise IntegrityError(f"segment {folder.name}: {len(vectors)} vectors do not fit its units and chunks")
        dense = {of: DenseIndex.load(folder / name) for of, name in DENSE_FILES.items() if (folder / name).exists()}
        for of, stored in dense.items():
            if len(stored) != int((units[1] == of).sum()):
                raise IntegrityError(f"segment {folder.name}: {DENSE_FILES[of]} does not fit its units")
        return cls(folder.name, chunks, aliases, questions, units, vectors, keys, dense)


def unit_texts(chunks: Sequence[Chunk], questions: Sequence[Sequence[str]], units: Sequence[Unit]) -> Iterator[str]:
    """The text that decides each unit's vector, in their order: of a sentence its chunk's, and its place."""
    for unit in units:
        chunk = chunks[unit.chunk]
        if unit.kind == CHUNK:
            yield embedded_text(chunk)
        elif unit.kind == SENTENCE:
            yield f"{unit.start - chunk.start}-{unit.end - chunk.start}\0{embedded_text(chunk)}"
        else:
            yield questions[unit.chunk][unit.start]


def text_key(text: str) -> bytes:
    """What an embedded text is found by again: KEY_BYTES of its sha256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


def unit_keys(chunks: Sequence[Chunk], questions: Sequence[Sequence[str]], units: Sequence[Unit]) -> np.ndarray:
    """``text_key`` of each unit's text, uint8 [units, KEY_BYTES]."""
    keys = b"".join(map(text_key, unit_texts(chunks, questions, units)))
    return np.frombuffer(keys, np.uint8).reshape(-1, KEY_BYTES)


def write_segment(
    folder: Path,
    chunks: Sequence[Chunk],
    aliases: Sequence[Sequence[str]],
    questions: Sequence[Sequence[str]],
    units: Sequence[Unit],
    vectors: np.ndarray,
    gone: Sequence[str] = (),
) -> SegmentRef:
    """Write one segment as a folder of its own below ``folder``; see ``snapshot.write_snapshot`` for the arguments."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(units) != len(vectors) or not len(chunks) == len(aliases) == len(questions):
        raise IntegrityError(f"{len(units)} units with {len(vectors)} vectors, {len(chunks)} chunks: counts differ")
    into = folder / "segment.new"
    into.mkdir()
    types = {"start": pa.int64(), "end": pa.int64(), "prior": pa.float64(), "also": pa.list_(pa.list_(pa.string())),
             "findings": pa.list_(pa.string())}  # fmt: skip
    columns: dict[str, Any] = {
        name: pa.array([getattr(c, name) for c in chunks], types.get(name, pa.string()))
        for name in Chunk.__dataclass_fields__
    }
    for name, lists in (("aliases", aliases), ("questions", questions)):
        columns[name] = pa.array([list(values) for values in lists], pa.list_(pa.string()))
    pq.write_table(pa.table(columns), into / "chunks.parquet", compression="zstd")
    parts = {name: pa.array([getattr(u, name) for u in units], pa.int32()) for name in _COLUMNS}
    pq.write_table(pa.table(parts), into / "units.parquet", compression="zstd")
    np.save(into / "vectors.npy", np.asarray(vectors, dtype=np.float16), allow_pickle=False)
    np.save(into / "keys.npy", unit_keys(chunks, questions, units), allow_pickle=False)
    for kind, file in DENSE_FILES.items():
        rows = [i for i, unit in enumerate(units) if unit.kind == kind]
        if is_large(len(rows)):
            DenseIndex(np.asarray(vectors)[rows]).save(into / file)
    digest = hashlib.sha256()
    for path in sorted(into.iterdir()):
        with path.open("rb") as handle:
            digest.update(f"{path.name}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
    name = digest.hexdigest()[:12]
    os.rename(into, folder / name)
    documents = len({c.document for c in chunks})
    return SegmentRef(name, len(chunks), documents, tuple(sorted(gone)))


def bytes_by_part(sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of an index (path of a file -> its size) by what they hold: ``vectors``, ``texts``, ``places`` and ``keys``
    of what was embedded, ``dense`` the index over the vectors, ``other``."""
    found = dict.fromkeys(_PARTS.values(), 0) | {"other": 0}
    for path, size in sizes.items():
        found[_PARTS.get(path.rpartition("/")[2], "other")] += size
    return {part: size for part, size in found.items() if size}


class KnownVectors:
    """Vectors of earlier versions by the text they embed; only for the same embedder (compare fingerprints)."""

    def __init__(self, keys: Sequence[np.ndarray], vectors: Sequence[np.ndarray]) -> None:
        joined = np.concatenate(keys).view(np.uint64).reshape(-1, 2) if keys else np.empty((0, 2), np.uint64)
        order = np.argsort(joined[:, 0], kind="stable")
        self._first, self._second = joined[order, 0], joined[order, 1]
        self._at = order
        self._starts = np.cumsum([0, *(len(part) for part in vectors)])
        self._vectors = list(vectors)

    @classmethod
    def read(cls, folders: Sequence[Path], also: tuple[np.ndarray, np.ndarray] | None = None) -> KnownVectors:
        """Of verified segment folders, whose vectors stay on disk until asked for; ``also`` more keys and vectors."""
        keys = [np.load(folder / "keys.npy", allow_pickle=False) for folder in folders]
        vectors = [np.load(f / "vectors.npy", mmap_mode="r", allow_pickle=False) for f in folders]
        return cls([*keys, *([also[0]] if also else [])], [*vectors, *([also[1]] if also else [])])

    def __len__(self) -> int:
        return len(self._at)

    def find(self, text: str) -> np.ndarray | None:
        """The float16 vector of a text, or None."""
        first, second = np.frombuffer(text_key(text), np.uint64)
        at = int(np.searchsorted(self._first, first))
        while at < len(self._first) and self._first[at] == first:
            if self._second[at] == second:
                row = int(self._at[at])
                part = int(np.searchsorted(self._starts, row, side="right")) - 1
                return np.asarray(self._vectors[part][row - self._starts[part]])
            at += 1
        return None
