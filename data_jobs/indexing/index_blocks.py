"""One block of an index: some documents -> their chunks, the texts to embed, and the finished file of the block.

Plain code that ``build_index.py`` spreads over a cluster. A block's file is written atomically when the block is done,
so a killed build redoes only the blocks without one.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.core.records import Chunk, Document
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.model_files import ModelFiles
from data_jobs.retrieval.segments import CHUNK, QUESTION, SENTENCE, KnownVectors, Unit
from data_jobs.text import units as text_units
from data_jobs.text.chunks import chunk, embedded_text
from data_jobs.text.sentences import sentences

UNIT_COLUMNS = 4
MAX_ENCLOSING = 2
MAX_SUMMARY_CHARS = 150


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
            tuple(Chunk(**row) for row in records["chunks"]),
            tuple(tuple(names) for names in records["aliases"]),
            tuple(tuple(texts) for texts in records["questions"]),
            units,
            vectors,
            int(records["embedded"]),
        )


def with_enclosing(documents: Sequence[Document]) -> list[tuple[Document, str]]:
    """Each document with the first sentences of what encloses it: a method's class and module, a function's module."""
    known = {d.id: d for d in documents}
    summaries: dict[str, str] = {}
    pairs = []
    for document in documents:
        above: list[str] = []
        at = known.get(document.part_of)
        while at is not None and len(above) < MAX_ENCLOSING:
            if at.id not in summaries:
                summaries[at.id] = _first_sentence(at.text)[:MAX_SUMMARY_CHARS]
            above.append(summaries[at.id])
            at = known.get(at.part_of)
        pairs.append((document, "\n".join(above)))
    return pairs


def _first_sentence(text: str) -> str:
    for start, end in sentences(text):
        return text[start:end]
    return ""


def cut(
    documents: Sequence[tuple[Document, str]], files: ModelFiles, section: IndexSection
) -> list[tuple[Document, Chunk]]:
    """The chunks of a block's documents; each document comes with lines about what encloses it."""
    limit = min(section.chunk_tokens, int(files.identity["max_tokens"]) - 2)
    return [(d, c) for d, about in documents for c in chunk(d, files.count_tokens, limit, about)]


def embed(
    pairs: Sequence[tuple[Document, Chunk]],
    embedder: Embedder,
    batch_size: int,
    known: KnownVectors | None = None,
) -> IndexBlock:
    """Embed every chunk (context and text), every unit of the chunks (a sentence, a row, a code block) and every
    question that a document answers; questions belong to its first chunk.

    Texts that ``known`` holds (vectors of the same embedder) are not embedded again.
    Sentence vectors are made here because at query time they would cost a forward pass over every returned passage.
    """
    units: list[Unit] = []
    texts: list[str] = []
    questions: list[tuple[str, ...]] = []
    for i, (document, piece) in enumerate(pairs):
        units.append(Unit(i, CHUNK, piece.start, piece.end))
        texts.append(embedded_text(piece))
        for part in text_units.units(piece.text, piece.header, piece.start == 0):
            units.append(Unit(i, SENTENCE, piece.start + part.start, piece.start + part.end))
            texts.append(piece.text[part.start : part.end])
        first = i == 0 or pairs[i - 1][0].id != document.id
        questions.append(document.questions if first else ())
        units += [Unit(i, QUESTION, n, n + 1) for n in range(len(questions[i]))]
        texts += questions[i]
    vectors = np.zeros((len(texts), embedder.dim), np.float16)
    new = []
    for i, text in enumerate(texts):
        found = known.find(text) if known else None
        if found is None:
            new.append(i)
        else:
            vectors[i] = found
    if new:
        vectors[new] = embedder.encode([texts[i] for i in new], batch_size).astype(np.float16)
    return IndexBlock(
        tuple(c for _, c in pairs),
        tuple(d.aliases for d, _ in pairs),
        tuple(questions),
        tuple(units),
        vectors,
        len(new),
    )
