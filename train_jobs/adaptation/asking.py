"""Questions of a corpus that its own search is tuned and judged on: made by rules, found again, split by document.

A question is made from one sentence of a document (``data_jobs.synthetic.writer``) and belongs to the passage that
holds it. It is used only where search as it stands finds that passage among its first (the round trip): of another, no
one knows whether it asks for this passage at all. That favours search as it stands, never what is learnt.

The document decides the side, by the hash of its id: ``learn``, ``tune`` (looked at while learning) or ``judge``. The
manner ``HELD_BACK`` is never learnt: who only learnt how the rules write gains nothing on it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cluster.core.records import Chunk, Document
from cluster.core.sections.adapt import AdaptSection
from data_jobs.corpus.splits import is_held_out
from data_jobs.retrieval.fusion import lexical_weights
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.wording import text_stems
from data_jobs.synthetic.rows import folded, idf, survey
from data_jobs.synthetic.writer import Synonyms, Writer

LEARN, TUNE, JUDGE = SIDES = ("learn", "tune", "judge")
TUNED = 0.1  # of the documents that do not judge
HELD_BACK = "what"
CANDIDATES = 32  # passages that a question is learnt with, the right one and those that search ranks highest
KEPT_WORDS, LEAST_WORDS = 0.5, 2  # share, and least number, of a made question's content words that it keeps
A_MINUTE = 400  # questions that are made, asked and learnt in a minute on two cores, at 5,000 passages


@dataclass(frozen=True)
class AskedOf:
    """A question and where its answer stands: ``document`` [start, end); ``passage`` is the row of its chunk."""

    question: str
    document: str
    start: int
    end: int
    manner: str
    passage: int


@dataclass(frozen=True)
class Trip:
    """What became of a question: ``kept``, and for what is learnt the ``passages`` it is learnt with, the right one
    first, and what their ``words`` are worth."""

    asked: AskedOf
    kept: bool
    passages: tuple[int, ...] = ()
    words: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON, from which ``from_dict`` makes it again."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Trip:
        """What ``to_dict`` gave."""
        words, passages = tuple(row["words"]), tuple(row["passages"])
        return cls(AskedOf(**row["asked"]), row["kept"], passages, words)


def side_of(document: str, held_out: float) -> str:
    """Which of ``SIDES`` a document is on."""
    if is_held_out(document, held_out):
        return JUDGE
    return TUNE if is_held_out(document, held_out + TUNED * (1 - held_out)) else LEARN


def questions_of(
    documents: Sequence[Document], chunks: Sequence[Chunk], section: AdaptSection, synonyms: str, most: int = 0
) -> tuple[list[AskedOf], Counter[str]]:
    """At most ``most`` questions (0: no limit) of an index's passages, and what was counted beside.

    Every passage has one before any has two. The same question of two passages is left out (``ambiguous``), the same of
    two sentences of one passage is one. Passages without a sentence that a question can be made of are counted
    (``passages_unasked``).
    """
    places: dict[str, list[int]] = {}
    for place, chunk in enumerate(chunks):
        places.setdefault(chunk.document, []).append(place)
    weights, rare = idf(*survey(documents))
    other = Synonyms.named(synonyms)
    asked: dict[str, list[tuple[int, AskedOf]]] = {}
    turns: Counter[int] = Counter()
    for document in documents:
        rows = places.get(document.id, [])
        side = side_of(document.id, section.held_out)
        picker = random.Random(f"{section.seed}\0{document.id}")  # noqa: S311 (no secret)
        writer = Writer(lambda term: weights.get(term, rare), other, picker)
        for made in writer.questions(document, section.per_passage * len(rows), own=()):
            row = next((r for r in rows if chunks[r].start <= made.start and made.end <= chunks[r].end), None)
            if row is None or (made.manner == HELD_BACK and side != JUDGE):
                continue
            turns[row] += 1
            question = made.question if made.manner == HELD_BACK else shortened(made.question, picker)
            one = AskedOf(question, document.id, made.start, made.end, made.manner, row)
            asked.setdefault(folded(question), []).append((turns[row], one))
    counted = Counter({"passages": len(chunks), "passages_unasked": len(chunks) - len(turns)})
    kept = []
    for same in asked.values():
        if len({one.passage for _, one in same}) > 1:
            counted["ambiguous"] += len(same)
        else:
            kept.append(same[0])
    kept.sort(key=lambda pair: pair[0])  # stable: in the order of the documents
    found = [one for _, one in kept]
    if most and len(found) > most:
        counted["over_the_time"] = len(found) - most
        found = found[:most]
    return found, counted


def shortened(question: str, picker: random.Random) -> str:
    """A question without some of the words that it took from its sentence: people do not know a passage's words.

    Of questions made whole, search as it stands puts the right passage first 99 times of 100 (SQuAD's paragraphs), of
    those that people asked 80 times: there would be nothing to learn, and nothing to judge by.
    """
    words = question.split()
    told = [at for at, word in enumerate(words) if text_stems(word)]
    kept = max(LEAST_WORDS, round(len(told) * KEPT_WORDS))
    gone = set(picker.sample(told, max(0, len(told) - kept)))
    return " ".join(word for at, word in enumerate(words) if at not in gone)


def round_trips(searcher: Searcher, asked: Iterable[AskedOf], section: AdaptSection) -> Iterator[Trip]:
    """Ask the index each question as it stands, over all of its passages."""
    chunks = searcher.snapshot.chunks
    weights = lexical_weights(chunks)
    hidden = np.zeros(len(chunks), dtype=bool)
    hidden[searcher.hidden] = True
    for one in asked:
        lexical, cosines = searcher.scores(one.question)
        words = weights * lexical
        scores = np.where(hidden, -np.inf, cosines + words)
        kept = not hidden[one.passage] and int((scores > scores[one.passage]).sum()) < section.round_trip
        if not kept or side_of(one.document, section.held_out) == JUDGE:
            yield Trip(one, kept)
            continue
        wrong = [row for row in _first(scores, np.where(hidden, -np.inf, cosines)) if not _holds(chunks[row], one)]
        rows = (one.passage, *wrong[: CANDIDATES - 1])
        yield Trip(one, kept, rows, tuple(round(float(words[row]), 5) for row in rows))


def _first(*lists: np.ndarray) -> list[int]:
    """The highest places of several lists in turn, each once."""
    tops = [np.argsort(-scores, kind="stable")[:CANDIDATES].tolist() for scores in lists]
    return list(dict.fromkeys(row for turn in zip(*tops, strict=True) for row in turn))


def _holds(chunk: Chunk, asked: AskedOf) -> bool:
    return chunk.document == asked.document and chunk.start <= asked.start and asked.end <= chunk.end


def arrays_of(trips: Sequence[Trip], vectors: np.ndarray, held_out: float, embed: Any) -> dict[str, np.ndarray]:
    """The arrays of ``asked_passages``.

    Args:
        vectors: of all passages, [passages, dim].
        embed: questions to their vectors, float32 [questions, dim].
    """
    arrays: dict[str, np.ndarray] = {"vectors": vectors.astype(np.float16)}
    for name, side in (("train", LEARN), ("held_out", TUNE)):
        own = [trip for trip in trips if trip.kept and side_of(trip.asked.document, held_out) == side]
        passages = np.full((len(own), CANDIDATES), -1, dtype=np.int64)
        words = np.zeros((len(own), CANDIDATES), dtype=np.float32)
        for line, trip in enumerate(own):
            passages[line, : len(trip.passages)] = trip.passages
            words[line, : len(trip.words)] = trip.words
        asked = embed([trip.asked.question for trip in own]) if own else np.zeros((0, vectors.shape[1]))
        arrays |= {f"{name}.questions": asked.astype(np.float32), f"{name}.passages": passages, f"{name}.words": words}
    return arrays
