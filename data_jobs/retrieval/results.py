"""What a search returns: passages, their scored sentences, what a reader makes of them, and features for abstention.

Plain values without behaviour, so that a result crosses a Serve handle, a cache or a log as JSON and comes back equal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from cluster.core.records import Chunk, Passage
from data_jobs.text.units import SENTENCE


@dataclass(frozen=True)
class ScoredSentence:
    """One sentence of a returned passage.

    Attributes:
        passage: index into ``Retrieval.passages``.
        start, end: half-open character offsets in the text of the passage's document.
        text: the sentence itself, ``document.text[start:end]``.
        dense: cosine of question and sentence, in [-1, 1].
        lexical: share of the question's idf mass whose words occur in the sentence, in [0, 1]; in a row also in its
            table's column names, in code also in what leads to it.
        kind: what it is (``text.units``): a sentence, a row of a table, a code block, a field of the document's header
            or a heading.
        header: the lines that name a row's columns, or the opening fence of code that began in an earlier chunk.
        lead: where the sentence that leads to a code block begins in the document; -1 without one.
    """

    passage: int
    start: int
    end: int
    text: str
    dense: float
    lexical: float
    kind: str = SENTENCE
    header: str = ""
    lead: int = -1


def in_order(sentences: Sequence[ScoredSentence], kept: Sequence[int]) -> list[ScoredSentence]:
    """The sentences of just these passages (places), when the passages come in this order."""
    place = {old: new for new, old in enumerate(kept)}
    found = [
        s if place[s.passage] == s.passage else replace(s, passage=place[s.passage])
        for s in sentences
        if s.passage in place
    ]
    return sorted(found, key=lambda s: s.passage)


ReaderState = Literal["off", "read", "spared", "missing", "failed"]
"""``off``: nobody wants a reader. ``spared``: its word would change nothing (``support.worth_reading``). ``missing``:
one is wanted and not there. ``failed``: it broke on this question."""


@dataclass(frozen=True)
class WindowReading:
    """What the reader says of one window of a passage.

    Attributes:
        passage: index into ``Retrieval.passages``.
        start, end: half-open character offsets of the window in the passage's document.
        answerable: calibrated probability, in [0, 1], that the window answers the question.
        answer_start, answer_end: offsets in the document of the span that answers; empty where it points at none.
        relevance: how well the window fits the question; orders the windows of one question.
    """

    passage: int
    start: int
    end: int
    answerable: float
    answer_start: int
    answer_end: int
    relevance: float


@dataclass(frozen=True)
class OutlineFound:
    """What the index's structure says of a document that a question names: what lies below it, and how it opens.

    Attributes:
        document, title, kind: of the document; of a folder its path and kind ``folder``.
        parts: names of what lies below it, or its headings (``headings``), in order.
        passages: its own first passages, which an answer cites; of a folder those of its files.
    """

    document: str
    title: str
    kind: str
    parts: tuple[str, ...] = ()
    headings: bool = False
    passages: tuple[Passage, ...] = ()

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The outline out of plain JSON."""
        passages = tuple(Passage.from_dict(p) for p in row["passages"])
        return cls(**{**row, "parts": tuple(row["parts"]), "passages": passages})


@dataclass(frozen=True)
class Understood:
    """What a search read out of its question before it searched.

    Attributes:
        searched_for: the question with its misspelt words corrected; empty where nothing was.
        unknown: words of the question that carry meaning and stand nowhere in the corpus, as typed.
        language: of the question (ISO 639-1) where the embedder was not made for it; else empty.
        parts: of several questions, or of a comparison, each side's own search.
        outline: for a list or a summary, the document it is asked of.
        editions: for documents among the passages that have several editions: ``(stamp, current, newest document)``.
    """

    searched_for: str = ""
    unknown: tuple[str, ...] = ()
    language: str = ""
    parts: tuple[Retrieval, ...] = ()
    outline: OutlineFound | None = None
    editions: dict[str, tuple[str, bool, str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "searched_for": self.searched_for,
            "unknown": list(self.unknown),
            "language": self.language,
            "parts": [part.to_dict() for part in self.parts],
            "outline": self.outline and {
                **vars(self.outline),
                "parts": list(self.outline.parts),
                "passages": [p.to_dict() for p in self.outline.passages],
            },
            "editions": {document: list(edition) for document, edition in self.editions.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The value out of plain JSON."""
        return cls(
            row["searched_for"],
            tuple(row["unknown"]),
            row["language"],
            tuple(map(Retrieval.from_dict, row["parts"])),
            OutlineFound.from_dict(row["outline"]) if row["outline"] else None,
            {document: (stamp, current, newest) for document, (stamp, current, newest) in row["editions"].items()},
        )


@dataclass(frozen=True)
class Confidence:
    """``probability`` that the passages answer the question; ``strange``: how many of its names and words they do not
    know; ``named``: whether it names the first document, and where a reader can tell the rest, says nothing else."""

    probability: float
    strange: float
    named: bool


@dataclass(frozen=True)
class Retrieval:
    """The result of one search, best passage first, at most one passage per document.

    Attributes:
        question: the question as searched.
        passages: best first; ``score`` is the fused score the order comes from.
        sentences: the sentences of the passages in passage order, then text order.
        features: corpus-relative evidence for abstention (names and meaning: ``features.FEATURES``).
        index_version, index_as_of: which index answered (manifest version and its creation time, UTC ISO 8601).
        collection: the name it answers under; empty for an index that was not searched as one.
        forgotten: how many decisions to forget were applied to the index when it was searched.
        timings_ms: milliseconds per stage.
        understood: what the search read out of the question.
        reader: whether a reader read the passages.
        readings: what it says, in passage order; empty unless ``reader`` is ``read``.
        threshold: the least confidence of an answer that keeps the promised risk in this index; None where its
            evidence promises nothing.
        confidence: what ``support.confidence`` says of it for its own question, judged once for everybody whom it
            meets on its way; None where nobody did.
        called: documents of code that the question names, where it asks about nothing else; lacking: that name, where
            the index documents what it belongs to, and not it (``code_names``).
    """

    question: str
    passages: tuple[Passage, ...] = ()
    sentences: tuple[ScoredSentence, ...] = ()
    features: dict[str, float] = field(default_factory=dict)
    index_version: str = ""
    index_as_of: str = ""
    timings_ms: dict[str, float] = field(default_factory=dict)
    understood: Understood = Understood()
    reader: ReaderState = "off"
    readings: tuple[WindowReading, ...] = ()
    threshold: float | None = None
    collection: str = ""
    confidence: Confidence | None = None
    forgotten: int = 0
    called: tuple[str, ...] = ()
    lacking: str = ""

    @property
    def degraded(self) -> bool:
        """Whether it lacks readings that were wanted."""
        return self.reader in ("missing", "failed")

    @property
    def labels(self) -> frozenset[str]:
        """The access labels of every document that a part of it shows."""
        of_outline = self.understood.outline.passages if self.understood.outline else ()
        found = {passage.access for passage in (*self.passages, *of_outline)}
        return frozenset(found.union(*(part.labels for part in self.understood.parts)))

    def unread(self) -> Retrieval:
        """The same as if no reader had read it."""
        return replace(self, reader="off", readings=(), confidence=None)

    def only(self, kept: Sequence[int]) -> Retrieval:
        """The same with just these passages (places in ``passages``), in this order, and what belongs to them."""
        place = {old: new for new, old in enumerate(kept)}
        readings = [replace(r, passage=place[r.passage]) for r in self.readings if r.passage in place]
        return replace(
            self,
            passages=tuple(self.passages[old] for old in kept),
            sentences=tuple(in_order(self.sentences, kept)),
            readings=tuple(sorted(readings, key=lambda r: r.passage)),
            confidence=None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; ``from_dict`` restores an equal value."""
        return {
            "question": self.question,
            "passages": [p.to_dict() for p in self.passages],
            "sentences": [vars(s).copy() for s in self.sentences],
            "features": dict(self.features),
            "index_version": self.index_version,
            "index_as_of": self.index_as_of,
            "timings_ms": dict(self.timings_ms),
            "understood": self.understood.to_dict(),
            "reader": self.reader,
            "readings": [vars(r).copy() for r in self.readings],
            "threshold": self.threshold,
            "collection": self.collection,
            "confidence": vars(self.confidence).copy() if self.confidence else None,
            "forgotten": self.forgotten,
            "called": list(self.called),
            "lacking": self.lacking,
        }

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The result out of plain JSON; what an earlier version of this program wrote lacks the readings."""
        passages = tuple(Passage.from_dict(p) for p in row["passages"])
        sentences = tuple(ScoredSentence(**s) for s in row["sentences"])
        understood = Understood.from_dict(row["understood"]) if "understood" in row else Understood()
        readings = tuple(WindowReading(**r) for r in row.get("readings", ()))
        judged = Confidence(**row["confidence"]) if row.get("confidence") else None
        made = {"passages": passages, "sentences": sentences, "understood": understood, "readings": readings}
        made |= {"confidence": judged, "called": tuple(row.get("called", ()))}
        return cls(**{**row, **made})


def passage_of(
    chunk: Chunk, score: float, dense: float, lexical: float, asked: float, unnamed: Collection[str] = ()
) -> Passage:
    """A chunk as a passage that was found with these scores; copies of it in documents ``unnamed`` are not named."""
    return Passage(
        chunk=chunk.id,
        document=chunk.document,
        title=chunk.title,
        source=chunk.source,
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        score=score,
        dense=dense,
        lexical=lexical,
        context=chunk.context,
        kind=chunk.kind,
        asked=asked,
        licence=chunk.licence,
        owner=chunk.owner,
        sensitivity=chunk.sensitivity,
        header=chunk.header,
        also=tuple(copy for copy in chunk.also if copy.document not in unnamed),
        access=chunk.access,
        findings=chunk.findings,
        scanned=chunk.scanned,
    )
