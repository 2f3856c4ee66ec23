"""An index version in memory: its segments as one list of chunks and vectors, deleted documents left out.

What is loaded equals a rebuilt index of the same documents but for the order of its rows, so searching knows nothing of
segments. Segments that an earlier version had too are not read again. The lexical index is made from the chunks at
load: that takes about a second for 10,000 chunks and leaves no second copy to keep consistent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.core.errors import IncompatibleError
from cluster.core.records import Chunk, Manifest
from data_jobs.retrieval.dense import DenseIndex, PatchedDense, is_large
from data_jobs.retrieval.model_files import asks_of
from data_jobs.retrieval.question_map import QuestionMap
from data_jobs.retrieval.segments import (
    CHUNK,
    DENSE_FILES,
    FORMAT,
    QUESTION,
    SENTENCE,
    Meta,
    Segment,
    Unit,
    write_segment,
)

__all__ = ["CHUNK", "FORMAT", "QUESTION", "SENTENCE", "Snapshot", "Unit", "write_snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """A loaded index.

    Attributes:
        chunks: all chunks; ``units`` and hits refer to their positions.
        aliases: per chunk, other accepted names of its document.
        questions: per chunk, the questions its document answers (of its first chunk; empty for the others).
        unit_chunk, unit_kind, unit_start, unit_end: the units' columns, int32 [units].
        vectors: float16 or float32 [units, dim], L2-normalised.
        version, as_of: manifest version and creation time.
        meta: embedder and segments.
        dense: by kind of unit, the stored index over its vectors, where there are too many to index at load.
        segments: what was loaded, and per segment which of its chunks count (bool [chunks]).
        question_map: what was learnt of the corpus' questions (`plinth adapt`); None where nothing was.
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
    meta: Meta | None = None
    dense: dict[int, DenseIndex | PatchedDense] = field(default_factory=dict)
    segments: tuple[tuple[Segment, np.ndarray], ...] = ()
    question_map: QuestionMap | None = None

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, embedder: str, earlier: Snapshot | None = None) -> Snapshot:
        """Load a verified folder (``Store.fetch``).

        Args:
            embedder: its fingerprint, or what it asks with (``Embedder.asks``) where it may have embedded the documents
                with another network.
            earlier: a version loaded before, whose segments are used again where this one has them too.

        Raises:
            IncompatibleError: built with another embedder, or by another format of this program.
            IntegrityError: files that contradict each other.
        """
        meta = Meta.read(folder, manifest.version)
        if embedder not in (meta.fingerprint, asks_of(meta.embedder)):
            raise IncompatibleError(
                f"index {manifest.name}@{manifest.version} was built with the embedder {meta.embedder.get('name')} "
                f"({meta.fingerprint}), the loaded one is {embedder}: rebuild the index, or set "
                "index.embedder and index.document_encoder to what it was built with ('same' for one built before "
                "there were document encoders)",
                index=manifest.version,
            )
        held = {segment.id: segment for segment, _ in earlier.segments} if earlier else {}
        parts = []
        for ref in meta.segments:
            segment = held.get(ref.id) or Segment.load(folder / ref.id, meta.labelled)
            gone = set(ref.gone)
            parts.append((segment, np.array([c.document not in gone for c in segment.chunks], dtype=bool)))
        whole = _merged(parts, manifest.version, manifest.created_at, meta, meta.dim)
        return replace(whole, question_map=QuestionMap.read(folder, meta.dim))

    def readable(self, labels: Collection[str]) -> Snapshot:
        """The same index as if it held only the chunks of these access labels; stored parts are shared.

        Where so few vectors are left that they are searched exactly, they are: in the inverted lists of all vectors the
        nearest of a few may lie in lists that are not looked into.
        """
        parts = []
        for segment, kept in self.segments or ((self._whole, np.ones(len(self.chunks), dtype=bool)),):
            parts.append((segment, kept & np.array([c.access in labels for c in segment.chunks], dtype=bool)))
        part = _merged(parts, self.version, self.as_of, self.meta, self.vectors.shape[1])
        dense = {kind: stored for kind, stored in part.dense.items() if is_large(len(stored))}
        return replace(part, dense=dense, question_map=self.question_map)

    def asking(self, vector: np.ndarray) -> np.ndarray:
        """With which vector its chunks are ordered for a question of this one; the same where nothing was learnt."""
        return vector if self.question_map is None else self.question_map.of(vector)

    @property
    def _whole(self) -> Segment:
        """All of it as one segment, where it was made of none."""
        units = np.stack([self.unit_chunk, self.unit_kind, self.unit_start, self.unit_end]).astype(np.int32)
        return Segment("", self.chunks, self.aliases, self.questions, units, self.vectors, np.empty((0, 16), np.uint8))


def _merged(
    parts: Sequence[tuple[Segment, np.ndarray]], version: str, as_of: str, meta: Meta | None, dim: int
) -> Snapshot:
    chunks: list[Chunk] = []
    aliases: list[tuple[str, ...]] = []
    questions: list[tuple[str, ...]] = []
    units, vectors, kept_units = [np.empty((4, 0), np.int32)], [np.empty((0, dim), np.float16)], []
    for segment, kept in parts:
        places = (np.cumsum(kept) - 1 + len(chunks)).astype(np.int32)
        alive = kept[segment.units[0]] if segment.units.size else np.empty(0, bool)
        columns = segment.units if alive.all() else segment.units[:, alive]
        units.append(np.concatenate([places[columns[:1]], columns[1:]]))
        vectors.append(segment.vectors if alive.all() else segment.vectors[alive])
        kept_units.append(alive)
        rows = range(len(segment.chunks)) if kept.all() else np.flatnonzero(kept).tolist()
        chunks += [segment.chunks[row] for row in rows]
        aliases += [segment.aliases[row] for row in rows]
        questions += [segment.questions[row] for row in rows]
    chunk, kind, start, end = np.concatenate(units, axis=1)
    every = vectors[1] if len(vectors) == 2 else np.concatenate(vectors)
    dense = {of: made for of in DENSE_FILES if (made := _dense(parts, kept_units, of)) is not None}
    about = (version, as_of, meta, dense, tuple(parts))
    return Snapshot(chunks, aliases, questions, chunk, kind, start, end, every, *about)


def _dense(
    parts: Sequence[tuple[Segment, np.ndarray]], kept_units: Sequence[np.ndarray], kind: int
) -> DenseIndex | PatchedDense | None:
    """The stored index of the largest segment that has one, patched by what was deleted from it and added beside it."""
    stored = [i for i, (segment, _) in enumerate(parts) if kind in segment.dense]
    if not stored:
        return None
    base = max(stored, key=lambda i: len(parts[i][0].dense[kind]))
    of_kind = [segment.units[1] == kind for segment, _ in parts]
    alive = [kept[mine] for kept, mine in zip(kept_units, of_kind, strict=True)]
    if len(parts) == 1 and alive[0].all():
        return parts[0][0].dense[kind]
    first = np.cumsum([0, *(int(kept.sum()) for kept in alive)])
    beside = [i for i in range(len(parts)) if i != base]
    extra = [parts[i][0].vectors[of_kind[i]][alive[i]] for i in beside]
    places = [np.arange(first[i], first[i + 1]) for i in beside]
    dim = parts[base][0].vectors.shape[1]
    return PatchedDense(
        parts[base][0].dense[kind],
        np.where(alive[base], np.cumsum(alive[base]) - 1 + first[base], -1),
        np.concatenate(extra) if extra else np.empty((0, dim), np.float16),
        np.concatenate(places) if places else np.empty(0, np.int64),
    )


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
    """Write an index of one segment into ``folder`` (staging; ``Store.publish`` makes it an artefact).

    Args:
        folder: an existing local folder.
        chunks, aliases, questions: every chunk, the aliases of its document and its questions, same lengths.
        units: what was embedded, in the order of ``vectors``.
        vectors: float [units, dim], L2-normalised.
        identity, fingerprint: of the embedder.
    """
    ref = write_segment(folder, chunks, aliases, questions, units, vectors)
    Meta(identity, fingerprint, int(np.shape(vectors)[1]), (ref,)).write(folder)
