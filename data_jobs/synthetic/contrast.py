"""Questions that a passage answers beside questions that it only seems to answer, made from any documents by rules.

Search finds related passages for nearly every question; what a reader, or a threshold, must tell apart is *related*
from *answered*. So every row has a question and a window of text, cut as ``retrieval.reader`` cuts them, and says
whether the window answers it. Those that do not are near misses, of the kinds in ``NEAR``. Rules write them, no
language model; a rule that cannot be sure makes no row. English only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.records import CODE_KINDS, Chunk, Document
from data_jobs.retrieval.reader import Window, window_around
from data_jobs.retrieval.results import ScoredSentence
from data_jobs.retrieval.wording import text_stems
from data_jobs.synthetic.facts import Fact, another_number, attribute_questions, facts_of, other_action, subject_in
from data_jobs.synthetic.writer import Synonyms, Writer, good_sentences
from data_jobs.text.chunks import chunk
from data_jobs.text.units import SENTENCE, units

ANSWERED = "answered"
# Another attribute than the passage tells, the same of another thing, another number or action, another part of the
# same document, another document.
NEAR = ("attribute", "entity", "number", "action", "part", "document")
KINDS = (ANSWERED, *NEAR)
PER_DOCUMENT = 6
CHUNK_WORDS = 160
SHARED = 0.5  # of a question's words: where a window of elsewhere holds more of them, it may well answer it


@dataclass(frozen=True)
class ContrastRow:
    """A question, a window of text, and whether the window answers it.

    Attributes:
        kind: ``answered`` or the kind of near miss (``NEAR``).
        answer: the piece of ``text`` that answers, where it is known; else empty.
        document: where the window is from; start: where its text begins there.
    """

    question: str
    title: str
    text: str
    answerable: bool
    kind: str
    document: str
    answer: str = ""
    start: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Its fields as plain values, as ``plinth train reader`` takes them."""
        row = asdict(self)
        return row if self.answer else {name: value for name, value in row.items() if name != "answer"}


@dataclass(frozen=True)
class _Place:
    """A sentence of a document with the window around it."""

    document: Document
    window: Window
    start: int
    sentence: str


def contrast_rows(documents: Sequence[Document], seed: int, per_document: int = PER_DOCUMENT) -> Iterator[ContrastRow]:
    """Rows of all kinds that the documents allow, in their order; the same for the same documents and seed.

    Args:
        per_document: how many questions that a document answers are asked, at most; each brings up to two near misses.
    """
    places = [places_of(document) for document in documents]
    near = _Neighbours(places)
    subjects = sorted({fact.subject for own in places for place in own for fact in facts_of(place.sentence)})
    for number, (document, own) in enumerate(zip(documents, places, strict=True)):
        if own:
            # Seeded by the document: what is asked of it depends on the others as little as can be.
            picker = random.Random(f"{seed}\0{document.id}")  # noqa: S311 (no secret)
            yield from _of_document(number, document, own, near, subjects, picker, per_document)


def places_of(document: Document) -> list[_Place]:
    """The sentences that a question can be asked about, each with its window."""
    good = {start: end for start, end in good_sentences(document)}
    found = []
    for piece in chunk(document, lambda text: len(text.split()), CHUNK_WORDS):
        scored = [_unit(piece, u.kind, u.start, u.end) for u in units(piece.text, piece.header, not piece.start)]
        for sentence in scored:
            if sentence.kind == SENTENCE and good.get(sentence.start) == sentence.end:
                window = window_around(0, piece, scored, sentence)
                found.append(_Place(document, window, sentence.start, sentence.text))
    return found


def _unit(piece: Chunk, kind: str, start: int, end: int) -> ScoredSentence:
    return ScoredSentence(0, piece.start + start, piece.start + end, piece.text[start:end], 0.0, 0.0, kind)


def _of_document(
    number: int, document: Document, own: list[_Place], near: _Neighbours, subjects: Sequence[str],
    picker: random.Random, most: int,
) -> Iterator[ContrastRow]:  # fmt: skip
    asked = [(own[0], question, None) for question in document.questions]
    picker.shuffle(asked)
    facts = [(place, fact.question(picker), fact) for place in own for fact in facts_of(place.sentence)]
    picker.shuffle(facts)
    written = [(place, question, None) for place, question in _written(document, own, picker, most)]
    for place, question, fact in (*asked[:most], *facts[:most], *written)[:most]:
        yield _row(question, place, ANSWERED, fact.answer if fact else "")
        yield from _misses(number, place, question, fact, near, subjects, picker)


def _written(document: Document, own: list[_Place], picker: random.Random, most: int) -> Iterator[tuple[_Place, str]]:
    """Questions by the rules of ``writer``, whole sentences only."""
    at = {place.start: place for place in own}
    writer = Writer(lambda _: 1.0, Synonyms(()), picker, plain=True)
    for asked in writer.questions(document, 2 * most, own=()):
        if asked.manner in ("how", "what") and asked.start in at:
            yield at[asked.start], asked.question


def _misses(
    number: int, place: _Place, question: str, fact: Fact | None, near: _Neighbours, subjects: Sequence[str],
    picker: random.Random,
) -> Iterator[ContrastRow]:  # fmt: skip
    """Up to two near misses of a question that a place answers, of different kinds."""
    makers: list[Callable[[], ContrastRow | None]] = [
        lambda: _elsewhere(question, place, near.within(number, place, picker), "part", fact),
        lambda: _elsewhere(question, place, near.beyond(number, question, picker), "document", fact),
        lambda: _changed(place, other_action(question, place.window.text, picker), "action"),
        lambda: _changed(place, another_number(question, place.window.text, picker), "number"),
        lambda: _changed(place, _another_entity(fact, place, subjects, picker), "entity"),
        lambda: _changed(place, _another_attribute(fact, place, picker), "attribute"),
    ]
    picker.shuffle(makers)
    kinds: set[str] = set()
    for make in makers:
        row = make() if len(kinds) < 2 else None
        if row is not None and row.kind not in kinds:
            kinds.add(row.kind)
            yield row


def _another_entity(fact: Fact | None, place: _Place, subjects: Sequence[str], picker: random.Random) -> str:
    if fact is None or not subjects:
        return ""
    other = picker.choice(subjects)
    known = f"{place.window.title} {place.window.text}".lower()
    return "" if subject_in(other, known) else fact.question(picker, other)


def _another_attribute(fact: Fact | None, place: _Place, picker: random.Random) -> str:
    subject = fact.subject if fact else ""
    if not subject:
        title = place.document.title.strip()
        subject = title if place.document.kind not in CODE_KINDS and 0 < len(title.split()) <= 6 else ""
    found = attribute_questions(subject, place.window.text, place.document.kind in CODE_KINDS) if subject else []
    return picker.choice(found) if found else ""


def _changed(place: _Place, question: str, kind: str) -> ContrastRow | None:
    return _row(question, place, kind) if question else None


def _elsewhere(question: str, place: _Place, other: _Place | None, kind: str, fact: Fact | None) -> ContrastRow | None:
    if other is None or place.sentence in other.window.text:
        return None
    if fact is not None and fact.answer.lower() in other.window.text.lower():
        return None
    asked = text_stems(question)
    held = asked & text_stems(other.window.text)
    return None if len(held) > SHARED * len(asked) else _row(question, other, kind)


def _row(question: str, place: _Place, kind: str, answer: str = "") -> ContrastRow:
    window = place.window
    found = answer if answer and answer in window.text else ""
    return ContrastRow(
        question, window.title, window.text, kind == ANSWERED, kind, place.document.id, found, window.start
    )


class _Neighbours:
    """Other places: of the same document, and of documents that share words or what they belong to."""

    def __init__(self, places: Sequence[list[_Place]]) -> None:
        self._places = places
        self._stems = [text_stems(" ".join(place.window.text for place in own[:3])) for own in places]
        self._holding: dict[str, list[int]] = {}
        for number, stems in enumerate(self._stems):
            for stem in stems:
                self._holding.setdefault(stem, []).append(number)
        self._kin: dict[str, list[int]] = {}
        for number, own in enumerate(places):
            if own and own[0].document.part_of:
                self._kin.setdefault(own[0].document.part_of, []).append(number)

    def within(self, number: int, place: _Place, picker: random.Random) -> _Place | None:
        """Another part of the same document."""
        others = [other for other in self._places[number] if other.window.text != place.window.text]
        return picker.choice(others) if others else None

    def beyond(self, number: int, question: str, picker: random.Random) -> _Place | None:
        """The document that shares most of the question's words out of a few that share one, or one of the same
        parent."""
        own = self._places[number][0].document.part_of
        kin = [other for other in self._kin.get(own, ()) if other != number] if own else []
        asked = text_stems(question)
        sharing = sorted({n for stem in asked for n in self._holding.get(stem, ())[:200] if n != number})
        some = picker.sample(sharing, min(8, len(sharing)))
        if kin and (not some or picker.random() < 0.4):
            return picker.choice(self._places[picker.choice(kin)])
        if not some:
            return None
        best = max(some, key=lambda n: (len(asked & self._stems[n]), -n))
        return picker.choice(self._places[best][:3])
