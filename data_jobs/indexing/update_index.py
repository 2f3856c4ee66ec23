"""Upserts and deletes without a rebuild: the next version of an index is the last one's segments and a small one more.

Segments are never changed: what was deleted or replaced is listed as gone beside them, and files are shared between
versions by hard links (copied in an object store). Readers load a whole version or none, since its manifest comes
last. Once the small segments and what is gone pass a share of the index, ``compact`` writes everything into one
segment again; no text is embedded twice.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cluster.core.access import access_counts
from cluster.core.errors import IncompatibleError
from cluster.core.home import Home
from cluster.core.records import Chunk, Document, Manifest, stable_hash
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store, storage_errors
from data_jobs.indexing.evidence import carry_evidence
from data_jobs.indexing.index_blocks import IndexBlock, cut, embed, finding_counts, joined, with_enclosing
from data_jobs.indexing.shipped_questions import shipped_vectors
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.model_files import ModelFiles, find_model
from data_jobs.retrieval.question_map import FILE as QUESTION_MAP
from data_jobs.retrieval.segments import (
    CONTINUED,
    FORMAT,
    KnownVectors,
    Meta,
    Segment,
    SegmentRef,
    Unit,
    bytes_by_part,
    write_segment,
)

KIND = "indexes"
# An index is compacted once the chunks that are gone, or outside the largest segment, are more than this share of those
# that live.
COMPACT_SHARE = 0.2
MAX_SEGMENTS = 16
MIN_COMPACT_CHUNKS = 256  # Up to so many of them cost a reader nothing.


def update(
    store: Store,
    section: IndexSection,
    before: Manifest | None,
    documents: Sequence[Document],
    deleted: Collection[str],
    embedder: Embedder,
    *,
    inputs: dict[str, str],
    name: str = "",
) -> Manifest:
    """Publish the version after ``before`` (None: the first): ``documents`` replace those of their ids, ``deleted`` go.

    Only texts that no segment holds yet are embedded. Documents that did not change (same chunks, names and questions)
    stay where they are; where nothing changes at all, ``before`` is returned. Does not move an alias.

    Args:
        inputs: what the version was made from, for its manifest; the version before it is added.

    Raises:
        IncompatibleError: ``before`` was built with another embedder or format.
        IntegrityError: its files are damaged.
    """
    began, name = time.monotonic(), name or section.name
    folder = _folder(store, before)
    meta = _meta(before, folder, embedder)
    held = [Segment.load(folder / ref.id) for ref in meta.segments] if folder else []
    block = embed(cut(with_enclosing(documents), find_model(section), section), embedder, _known(held))
    same = _unchanged(held, meta.segments, block)
    embedded, block = block.embedded, _without(block, same)
    incoming = {d.id for d in documents} - same
    refs = []
    for ref, segment in zip(meta.segments, held, strict=True):
        here = {c.document for c in segment.chunks}
        refs.append(replace(ref, gone=tuple(sorted({*ref.gone, *(here & (incoming | set(deleted)))}))))
    refs = [ref for ref in refs if len(ref.gone) < ref.documents]
    if before is not None and tuple(refs) == meta.segments and not block.chunks:
        return before
    if any(document.access for document in documents) and not meta.labelled:
        raise IncompatibleError(
            f"the index {name} was built before documents had access labels: build a new one for documents that not "
            "everybody may read",
            index=before.version if before else "",
        )
    block = replace(block, embedded=embedded)
    kept = replace(meta, segments=tuple(refs))
    stands = {ref.id: set(ref.gone) for ref in refs}
    left = [c for one in held if one.id in stands for c in one.chunks if c.document not in stands[one.id]]
    return _publish(store, name, kept, folder, block, before, inputs, began, folder, _said_of([*left, *block.chunks]))


def needs_compaction(store: Store, index: Manifest) -> bool:
    """Whether searching it wastes enough to write it anew."""
    refs = _meta_of(store, index).segments
    if len(refs) < 2 and not any(ref.gone for ref in refs):
        return False
    live, largest = int(index.counts["chunks"]), max((ref.chunks for ref in refs), default=0)
    beside = sum(ref.chunks for ref in refs) - largest + sum(ref.chunks for ref in refs) - live
    return len(refs) > MAX_SEGMENTS or beside > max(MIN_COMPACT_CHUNKS, COMPACT_SHARE * live)


def compact(store: Store, index: Manifest) -> Manifest:
    """The same index in one segment, with the same search results. Embeds nothing."""
    began, folder = time.monotonic(), _folder(store, index)
    meta = Meta.read(folder, index.version) if folder else None
    if folder is None or meta is None:
        return index
    parts = [_alive(Segment.load(folder / ref.id), ref) for ref in meta.segments]
    block = joined(parts, meta.dim)
    meta, about = replace(meta, segments=()), _said_of(block.chunks)
    return _publish(store, index.name, meta, None, block, index, {}, began, folder, about)


def kept_from_prompts(store: Store, index: Manifest) -> list[Chunk]:
    """The chunks of a version that no prompt may hold, by what was found in them when they came into it."""
    folder = _folder(store, index) or Path()
    held = [(Segment.load(folder / ref.id), set(ref.gone)) for ref in _meta_of(store, index).segments]
    return [one for segment, gone in held for one in segment.chunks if one.findings and one.document not in gone]


def indexed_documents(store: Store, index: Manifest) -> dict[str, int]:
    """The documents that a version finds, and how many chunks each has."""
    from data_jobs.corpus.parquet import read_table

    folder = _folder(store, index)
    found: dict[str, int] = {}
    for ref in _meta_of(store, index).segments:
        names = read_table((folder or Path()) / ref.id / "chunks.parquet").column("document").to_pylist()
        gone = set(ref.gone)
        for name in names:
            if name not in gone:
                found[name] = found.get(name, 0) + 1
    return found


def known_vectors(store: Store, name: str, files: ModelFiles) -> KnownVectors:
    """Vectors of the live and the newest version of an index and of the shipped questions, of the same embedder."""
    versions = [m for m in store.versions(KIND, name) if m.config.get("fingerprint") == files.fingerprint]
    live = store.alias(KIND, name, "live")
    folders: dict[str, Path] = {}
    for manifest in [*(m for m in versions if m.version == live), *versions[-1:]]:
        try:
            meta, folder = _meta_of(store, manifest), _folder(store, manifest)
        except IncompatibleError:
            continue
        folders |= {ref.id: folder / ref.id for ref in meta.segments} if folder else {}
    return KnownVectors.read(list(folders.values()), shipped_vectors(files.asks))


def _folder(store: Store, manifest: Manifest | None) -> Path | None:
    return store.fetch(manifest, Home.from_env().folder("cache")) if manifest else None


def _meta_of(store: Store, manifest: Manifest) -> Meta:
    folder = _folder(store, manifest)
    if folder is None:
        raise IncompatibleError("there is no index")
    return Meta.read(folder, manifest.version)


def _meta(before: Manifest | None, folder: Path | None, embedder: Embedder) -> Meta:
    if before is None or folder is None:
        return Meta(embedder.identity, embedder.fingerprint, embedder.dim)
    meta = Meta.read(folder, before.version)
    if meta.format not in CONTINUED:
        raise IncompatibleError(
            f"index {before.name}@{before.version} was built by an earlier version of this program: build a new one",
            index=before.version,
        )
    if meta.fingerprint != embedder.fingerprint:
        raise IncompatibleError(
            f"index {before.name}@{before.version} was built with another embedder: build a new one, or set "
            "index.embedder and index.document_encoder to what it was built with ('same' for one built before "
            "there were document encoders)",
            index=before.version,
        )
    # What is added has the columns of today, which an earlier program does not know.
    return replace(meta, format=FORMAT) if meta.labelled else meta


def _known(held: Sequence[Segment]) -> KnownVectors | None:
    return KnownVectors([s.keys for s in held], [s.vectors for s in held]) if held else None


def _unchanged(held: Sequence[Segment], refs: Sequence[SegmentRef], block: IndexBlock) -> set[str]:
    """Documents of ``block`` that stand in the index with equal chunks, names and questions."""

    def grouped(parts: Any) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for row in parts:
            found.setdefault(row[0].document, []).append(row)
        return found

    new = grouped(zip(block.chunks, block.aliases, block.questions, strict=True))
    same = set()
    for segment, ref in zip(held, refs, strict=True):
        gone = set(ref.gone)
        rows = zip(segment.chunks, segment.aliases, segment.questions, strict=True)
        old = grouped(row for row in rows if row[0].document in new and row[0].document not in gone)
        same |= {name for name, pieces in old.items() if pieces == new[name]}
    return same


def _without(block: IndexBlock, documents: Collection[str]) -> IndexBlock:
    kept = np.array([c.document not in documents for c in block.chunks], dtype=bool)
    return _rows(block.chunks, block.aliases, block.questions, block.units, block.vectors, kept)


def _alive(segment: Segment, ref: SegmentRef) -> IndexBlock:
    gone = set(ref.gone)
    kept = np.array([c.document not in gone for c in segment.chunks], dtype=bool)
    units = [Unit(*row) for row in segment.units.T.tolist()]
    return _rows(segment.chunks, segment.aliases, segment.questions, units, segment.vectors, kept)


def _rows(
    chunks: Sequence[Chunk],
    aliases: Sequence[tuple[str, ...]],
    questions: Sequence[tuple[str, ...]],
    units: Sequence[Unit],
    vectors: np.ndarray,
    kept: np.ndarray,
) -> IndexBlock:
    places = np.cumsum(kept) - 1
    rows = np.flatnonzero(kept).tolist()
    alive = [i for i, unit in enumerate(units) if kept[unit.chunk]]
    moved = tuple(replace(units[i], chunk=int(places[units[i].chunk])) for i in alive)
    return IndexBlock(
        tuple(chunks[row] for row in rows),
        tuple(aliases[row] for row in rows),
        tuple(questions[row] for row in rows),
        moved,
        vectors[alive],
    )


def _publish(
    store: Store,
    name: str,
    meta: Meta,
    folder: Path | None,
    block: IndexBlock,
    before: Manifest | None,
    inputs: dict[str, str],
    began: float,
    known: Path | None,
    about: dict[str, Any],
) -> Manifest:
    """``known`` is the folder of the version before: what is known of its risk goes on to this one. ``about``: what
    its counts say of its chunks."""
    with TemporaryDirectory() as scratch:
        local = Path(scratch)
        if known is not None and before is not None:
            carry_evidence(known, local, before.version)
            if (known / QUESTION_MAP).is_file():  # what it learnt of its questions holds for a few documents more
                shutil.copyfile(known / QUESTION_MAP, local / QUESTION_MAP)
        added = None
        if block.chunks:
            added = write_segment(local, block.chunks, block.aliases, block.questions, block.units, block.vectors)
            if added.id in {ref.id for ref in meta.segments}:  # the same rows came back after they had been deleted
                meta = replace(meta, segments=tuple(r for r in meta.segments if r.id != added.id))
        live = meta.segments + ((added,) if added else ())
        replace(meta, segments=live).write(local)
        run_key = stable_hash({"kind": KIND, "before": before.version if before else "", "inputs": inputs,
                               "segments": [vars(ref) for ref in live]})  # fmt: skip
        staging = store.staging(run_key)
        store.fs.rm(staging, recursive=True)  # what a kill left behind
        staging = store.staging(run_key)
        for ref in meta.segments:
            for path in sorted(((folder or local) / ref.id).iterdir()):
                inside = f"{ref.id}/{path.name}"
                share_file(store, path, posixpath.join(staging, inside), before, inside)
        for path in sorted(p for p in local.rglob("*") if p.is_file()):
            store.write(posixpath.join(staging, path.relative_to(local).as_posix()), path.read_bytes())
    gone = {ref.id: set(ref.gone) for ref in live}
    counts = _counts(live, gone, folder, block, added)
    counts |= {"embedded": block.embedded, **about}
    counts |= bytes_per_chunk(store, staging, counts["chunks"])
    counts["seconds"] = round(time.monotonic() - began, 3)
    if before and before.counts.get("adapted"):
        counts["adapted"] = True
    config = {"embedder": meta.embedder, "fingerprint": meta.fingerprint, "segments": len(live)}
    earlier = {**before.inputs, "previous": f"{before.name}@{before.version}"} if before else {}
    earlier.pop("adapted_from", None)  # of the documents before this change
    made_from = {**earlier, **inputs}
    return store.publish(KIND, name, staging, run_key=run_key, inputs=made_from, config=config, counts=counts)


def _said_of(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """What the counts of a manifest say of its chunks: how many documents have each access label, and what was found
    in them."""
    labels = Counter({chunk.document: chunk.access for chunk in chunks}.values())
    return {**access_counts(labels), **finding_counts(chunks)}


def bytes_per_chunk(store: Store, folder: str, chunks: int) -> dict[str, Any]:
    """Counts of a manifest: the bytes on disk of the index in ``folder`` for each of its chunks, and by part."""
    paths = store.fs.find(folder)
    parts = bytes_by_part(dict(zip(paths, store.fs.sizes(paths), strict=True)))
    whole = round(sum(parts.values()) / max(1, chunks))
    return {
        "bytes_per_chunk": whole, "bytes_per_chunk_of": {part: round(n / max(1, chunks)) for part, n in parts.items()}
    }  # fmt: skip


def _counts(
    refs: Sequence[SegmentRef],
    gone: dict[str, set[str]],
    folder: Path | None,
    block: IndexBlock,
    added: SegmentRef | None,
) -> dict[str, Any]:
    """Documents and chunks that are found."""
    from data_jobs.corpus.parquet import read_table

    chunks = len(block.chunks) if added else 0
    documents = added.documents if added else 0
    for ref in refs:
        if added and ref.id == added.id:
            continue
        documents += ref.documents - len(ref.gone)
        if not ref.gone or folder is None:
            chunks += ref.chunks
        else:
            names = read_table(folder / ref.id / "chunks.parquet").column("document").to_pylist()
            chunks += sum(name not in gone[ref.id] for name in names)
    return {"documents": documents, "chunks": chunks, "segments": len(refs)}


def share_file(store: Store, path: Path, target: str, before: Manifest | None, name: str) -> None:
    """Put a file of a version, ``name`` there and ``path`` on this machine, into another one: by a hard link where the
    filesystem has them."""
    if not store.local:
        if before is not None:
            store.fs.copy(posixpath.join(store.artefact(before), name), target)
        return
    with storage_errors(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another filesystem, or one without links
            shutil.copyfile(path, target)
