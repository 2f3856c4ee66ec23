"""An index on disk: the chunks, what was embedded, and the vectors; loaded whole into memory for searching.

Files: ``chunks.parquet`` (one row per chunk, with its document's aliases and, in a document's first chunk, the
questions it answers), ``units.parquet`` (what each vector embeds: a chunk, a sentence or a question of it),
``vectors.npy`` (float16 [units, dim], L2-normalised), ``meta.json`` (format and embedder), and where there are many
chunks or questions ``dense.faiss`` and ``dense_questions.faiss``. They hold no times, hosts or random ids, so equal
inputs give equal bytes and thus an equal version. The lexical index is rebuilt from the chunks at load: that takes
about a second for 10,000 chunks and leaves no second copy to keep consistent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cluster.core.errors import IncompatibleError, IntegrityError
from cluster.core.records import Chunk, Manifest
from data_jobs.parquet import read_table
from data_jobs.retrieval.dense import DenseIndex, is_large

FORMAT = 3
CHUNK, SENTENCE, QUESTION = 0, 1, 2
DENSE_FILES = {CHUNK: "dense.faiss", QUESTION: "dense_questions.faiss"}


@dataclass(frozen=True)
class Unit:
    """One embedded text: ``kind`` CHUNK (context and text), SENTENCE or QUESTION; offsets are in the document's text,
    of a QUESTION ``[n, n + 1)`` for the chunk's n-th."""

    chunk: int
    kind: int
    start: int
    end: int


@dataclass(frozen=True)
class Snapshot:
    """A loaded index.

    Attributes:
        chunks: all chunks; ``units`` and hits refer to their positions.
        aliases: per chunk, other accepted names of its document.
        questions: per chunk, the questions its document answers (of its first chunk; empty for the others).
        unit_chunk, unit_kind, unit_start, unit_end: the units' columns, int32 [units].
        vectors: float32 [units, dim], L2-normalised.
        version, as_of: manifest version and creation time.
        meta: the content of meta.json.
        dense: by kind of unit, the stored index over its vectors, where there are too many to index at load.
    """

    chunks: list[Chunk]
    aliases: list[tuple[str, ...]]
    questions: list[tuple[str, ...]]
    unit_chunk: np.ndarray
    unit_kind: np.ndarray
    unit_start: np.ndarray
    unit_end: np.ndarray
    vectors: np.ndarray
    version: str = ""
    as_of: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    dense: dict[int, DenseIndex] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, embedder_fingerprint: str) -> Snapshot:
        """Load a verified folder (``Store.fetch``).

        Raises:
            IncompatibleError: built with another embedder, or by another format of this program.
            IntegrityError: files that contradict each other.
        """
        meta = json.loads((folder / "meta.json").read_text())
        if meta["format"] != FORMAT:
            raise IncompatibleError(
                f"index {manifest.version} has format {meta['format']}, this program reads {FORMAT}"
            )
        if meta["fingerprint"] != embedder_fingerprint:
            raise IncompatibleError(
                f"index {manifest.name}@{manifest.version} was built with the embedder {meta['embedder'].get('name')} "
                f"({meta['fingerprint']}), the loaded one is {embedder_fingerprint}: rebuild the index or set "
                "index.embedder to the one it was built with",
                index=manifest.version,
            )

        table = read_table(folder / "chunks.parquet")
        aliases, questions = (
            [tuple(values) for values in table.column(name).to_pylist()] for name in ("aliases", "questions")
        )
        chunks = [Chunk(**row) for row in table.drop_columns(["aliases", "questions"]).to_pylist()]
        units = read_table(folder / "units.parquet")
        columns = [units.column(name).to_numpy().astype(np.int32) for name in ("chunk", "kind", "start", "end")]
        vectors = np.load(folder / "vectors.npy", allow_pickle=False).astype(np.float32)
        if len(vectors) != len(columns[0]) or (len(vectors) and columns[0].max() >= len(chunks)):
            raise IntegrityError(f"index {manifest.version}: {len(vectors)} vectors do not fit its units and chunks")
        chunk, kind, start, end = columns
        dense = {of: DenseIndex.load(folder / name) for of, name in DENSE_FILES.items() if (folder / name).exists()}
        for of, stored in dense.items():
            if len(stored) != int((kind == of).sum()):
                raise IntegrityError(f"index {manifest.version}: {DENSE_FILES[of]} does not fit its units")
        version, as_of = manifest.version, manifest.created_at
        return cls(chunks, aliases, questions, chunk, kind, start, end, vectors, version, as_of, meta, dense)


def write_snapshot(
    folder: Path,
    chunks: Sequence[Chunk],
    aliases: Sequence[Sequence[str]],
    questions: Sequence[Sequence[str]],
    units: Sequence[Unit],
    vectors: np.ndarray,
    identity: dict[str, Any],
    fingerprint: str,
) -> None:
    """Write an index's files into ``folder`` (staging; ``Store.publish`` makes it an artefact).

    Args:
        folder: an existing local folder.
        chunks, aliases, questions: every chunk, the aliases of its document and its questions, same lengths.
        units: what was embedded, in the order of ``vectors``.
        vectors: float [units, dim], L2-normalised.
        identity, fingerprint: of the embedder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(units) != len(vectors) or not len(chunks) == len(aliases) == len(questions):
        raise IntegrityError(f"{len(units)} units with {len(vectors)} vectors, {len(chunks)} chunks: counts differ")
    names = list(Chunk.__dataclass_fields__)
    types = {"start": pa.int64(), "end": pa.int64(), "prior": pa.float64()}
    columns: dict[str, Any] = {
        name: pa.array([getattr(c, name) for c in chunks], types.get(name, pa.string())) for name in names
    }
    for name, lists in (("aliases", aliases), ("questions", questions)):
        columns[name] = pa.array([list(values) for values in lists], pa.list_(pa.string()))
    pq.write_table(pa.table(columns), folder / "chunks.parquet", compression="zstd")
    parts = {
        name: pa.array([getattr(u, name) for u in units], pa.int32()) for name in ("chunk", "kind", "start", "end")
    }
    pq.write_table(pa.table(parts), folder / "units.parquet", compression="zstd")
    np.save(folder / "vectors.npy", np.asarray(vectors, dtype=np.float16), allow_pickle=False)
    for kind, file in DENSE_FILES.items():
        rows = [i for i, unit in enumerate(units) if unit.kind == kind]
        if is_large(len(rows)):
            DenseIndex(np.asarray(vectors)[rows].astype(np.float32)).save(folder / file)
    meta = {"format": FORMAT, "embedder": identity, "fingerprint": fingerprint, "dim": int(np.shape(vectors)[1])}
    temporary = folder / "meta.json.tmp"
    temporary.write_text(json.dumps(meta, indent=1, sort_keys=True))
    os.replace(temporary, folder / "meta.json")
