"""One block of an index: some documents -> their chunks, some chunks -> their vectors, and the block's finished file.

Plain code that ``build_index.py`` spreads over a cluster. A block's file is written atomically when the block is done,
so a killed build redoes only the blocks without one.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from cluster.core.records import Chunk, Document
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.model_files import ModelFiles
from data_jobs.retrieval.segments import CHUNK, QUESTION, SENTENCE, KnownVectors, Unit, unit_texts
from data_jobs.safety.passages import findings, scan_version, text_of
from data_jobs.text import units as text_units
from data_jobs.text.chunks import chunk, embedded_text
from data_jobs.text.sentences import sentences

UNIT_COLUMNS = 4
REMEMBERED_COUNTS = 4096  # The same paragraph, title or heading is counted several times while a document is cut.
MAX_ENCLOSING = 2
MAX_SUMMARY_CHARS = 150


@dataclass(frozen=True)
class Piece:
    """What is embedded together: a chunk, the other names of its document and, with its first chunk, the questions
    that it answers."""

    chunk: Chunk
    aliases: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


def pieces_to_bytes(pieces: Sequence[Piece]) -> bytes:
    """JSON of pieces, as ``pieces_from_bytes`` reads it."""
    return json.dumps([[p.chunk.to_dict(), p.aliases, p.questions] for p in pieces]).encode()


def pieces_from_bytes(data: bytes) -> list[Piece]:
    """Raises ValueError where ``data`` is not what ``pieces_to_bytes`` wrote."""
    try:
        rows = json.loads(data)
        return [Piece(Chunk.from_dict(chunk), tuple(aliases), tuple(questions)) for chunk, aliases, questions in rows]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not the pieces of a block: {error}") from error


@dataclass(frozen=True)
class IndexBlock:
    """A finished block. ``units`` count chunks from 0 within the block; ``vectors`` is float16 [units, dim],
    ``embedded`` how many of them were made here and not taken over from an earlier version."""

    chunks: tuple[Chunk, ...]
    aliases: tuple[tuple[str, ...], ...]
    questions: tuple[tuple[str, ...], ...]
    units: tuple[Unit, ...]
    vectors: np.ndarray
    embedded: int = 0

    def to_bytes(self) -> bytes:
        """One .npz without pickled objects."""
        rows = {"chunks": [c.to_dict() for c in self.chunks], "aliases": self.aliases, "questions": self.questions,
                "embedded": self.embedded}  # fmt: skip
        records = json.dumps(rows).encode()
        units = np.array([(u.chunk, u.kind, u.start, u.end) for u in self.units], np.int64).reshape(-1, UNIT_COLUMNS)
        buffer = io.BytesIO()
        np.savez(buffer, records=np.frombuffer(records, np.uint8), units=units, vectors=self.vectors)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> IndexBlock:
        """Raises ValueError where ``data`` is not a whole block."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                records = json.loads(arrays["records"].tobytes())
                units = tuple(Unit(*(int(v) for v in row)) for row in arrays["units"])
                vectors = arrays["vectors"]
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise ValueError(f"not a finished block: {error}") from error
        return cls(
            tuple(map(Chunk.from_dict, records["chunks"])),
            tuple(tuple(names) for names in records["aliases"]),
            tuple(tuple(texts) for texts in records["questions"]),
            units,
            vectors,
            int(records["embedded"]),
        )


def joined(blocks: Iterable[IndexBlock], dim: int) -> IndexBlock:
    """One block of all; ``dim`` is the length of a vector, for none."""
    units: list[Unit] = []
    chunks: list[Chunk] = []
    aliases: list[tuple[str, ...]] = []
    questions: list[tuple[str, ...]] = []
    vectors = [np.empty((0, dim), np.float16)]
    embedded = 0
    for block in blocks:
        units += [replace(unit, chunk=unit.chunk + len(chunks)) for unit in block.units]
        chunks += block.chunks
        aliases += block.aliases
        questions += block.questions
        vectors.append(block.vectors)
        embedded += block.embedded
    return IndexBlock(tuple(chunks), tuple(aliases), tuple(questions), tuple(units), np.concatenate(vectors), embedded)


def with_enclosing(documents: Sequence[Document]) -> list[tuple[Document, str]]:
    """Each document with the first sentences of what encloses it: a method's class and module, a function's module.

    Only where whoever may read the document may read that too.
    """
    known = {d.id: d for d in documents}
    summaries: dict[str, str] = {}
    pairs = []
    for document in documents:
        above: list[str] = []
        at = known.get(document.part_of)
        while at is not None and len(above) < MAX_ENCLOSING:
            if at.id not in summaries:
                summaries[at.id] = _first_sentence(at.text)[:MAX_SUMMARY_CHARS]
            if at.access in ("", document.access):
                above.append(summaries[at.id])
            at = known.get(at.part_of)
        pairs.append((document, "\n".join(above)))
    return pairs


def _first_sentence(text: str) -> str:
    for start, end in sentences(text):
        return text[start:end]
    return ""


def cut(documents: Sequence[tuple[Document, str]], files: ModelFiles, section: IndexSection) -> list[Piece]:
    """The chunks of documents, each with what was found in it; a document comes with lines about what encloses it."""
    limit = min(section.chunk_tokens, int(files.identity["max_tokens"]) - 2)
    count_tokens = lru_cache(REMEMBERED_COUNTS)(files.count_tokens)
    return [
        Piece(scanned(piece), document.aliases, document.questions if i == 0 else ())
        for document, about in documents
        for i, piece in enumerate(chunk(document, count_tokens, limit, about))
    ]


def scanned(one: Chunk) -> Chunk:
    """The chunk with what is found in it that no prompt may hold."""
    return replace(one, findings=findings(text_of(one)), scanned=scan_version())


def finding_counts(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """What the counts of a manifest say of the scan: how many chunks no prompt may hold, by finding how many have it,
    and how many were not scanned."""
    found = Counter(finding for chunk in chunks for finding in chunk.findings)
    unscanned = sum(not chunk.scanned for chunk in chunks)
    return {
        "kept_from_prompts": sum(bool(chunk.findings) for chunk in chunks),
        **({"findings": dict(sorted(found.items()))} if found else {}),
        **({"not_scanned": unscanned} if unscanned else {}),
    }


def blocks_of(pieces: Sequence[Piece], chars: int) -> list[list[Piece]]:
    """Pieces in order, in blocks of about ``chars`` characters to embed: the work lost when one is interrupted."""
    blocks: list[list[Piece]] = []
    held = chars
    for piece in pieces:
        if held >= chars:
            blocks.append([])
            held = 0
        blocks[-1].append(piece)
        held += len(embedded_text(piece.chunk)) + sum(map(len, piece.questions))
    return blocks


def embed(pieces: Sequence[Piece], embedder: Embedder, known: KnownVectors | None = None) -> IndexBlock:
    """Embed every chunk (text and context), its units (a sentence, a row, a code block) and the questions it answers.

    A unit's vector is pooled from the chunk's own forward pass (``Embedder.encode_parts``): it costs nothing more,
    and knows what "it" is. At query time it would cost a forward pass over every returned passage.
    Chunks and questions that ``known`` holds whole (vectors of the same embedder) are not embedded again.
    """
    units: list[Unit] = []
    for i, piece in enumerate(pieces):
        units += _units_of(i, piece)
    chunks, questions = tuple(p.chunk for p in pieces), tuple(p.questions for p in pieces)
    vectors = np.zeros((len(units), embedder.dim), np.float16)
    missing = np.ones(len(units), dtype=bool)
    for i, text in enumerate(unit_texts(chunks, questions, units)):
        if known is not None and (found := known.find(text)) is not None:
            vectors[i], missing[i] = found, False
    again = sorted({u.chunk for u, new in zip(units, missing, strict=True) if new and u.kind != QUESTION})
    rows: dict[int, list[int]] = {i: [] for i in again}
    whole = {}
    for row, unit in enumerate(units):
        if unit.chunk in rows and unit.kind == SENTENCE:
            rows[unit.chunk].append(row)
        elif unit.chunk in rows and unit.kind == CHUNK:
            whole[unit.chunk] = row
    spans = [[(units[r].start - chunks[i].start, units[r].end - chunks[i].start) for r in rows[i]] for i in again]
    texts, parts = embedder.encode_parts([embedded_text(chunks[i]) for i in again], spans)
    vectors[[whole[i] for i in again]] = texts
    vectors[[row for i in again for row in rows[i]]] = parts
    asked = [row for row, unit in enumerate(units) if unit.kind == QUESTION and missing[row]]
    vectors[asked] = embedder.encode([questions[units[row].chunk][units[row].start] for row in asked], kind="query")
    made = len(again) + sum(map(len, rows.values())) + len(asked)
    return IndexBlock(chunks, tuple(p.aliases for p in pieces), questions, tuple(units), vectors, made)


def parts_of(piece: Piece) -> list[tuple[int, int]]:
    """The spans of a chunk's text that have vectors of their own: sentences, rows, code blocks."""
    one = piece.chunk
    return [(part.start, part.end) for part in text_units.units(one.text, one.header, one.start == 0)]


def _units_of(number: int, piece: Piece) -> list[Unit]:
    one = piece.chunk
    return [
        Unit(number, CHUNK, one.start, one.end),
        *(Unit(number, SENTENCE, one.start + start, one.start + end) for start, end in parts_of(piece)),
        *(Unit(number, QUESTION, n, n + 1) for n in range(len(piece.questions))),
    ]
