"""Synthetic rows out of a corpus: questions with answer and passage, and paraphrases; tagged, filtered, capped.

Rules write them (``writer``, ``paraphrase``), no language model: every row names the document, the span
it rests on, the rule and the seed that made it. The work on one part of a corpus is a pure function here; choosing
among all parts (``choose``) sees a few columns of them only. What a document yields depends on the document, the seed
and the corpus's word counts, so the rows are the same for any number of workers.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.errors import PolicyRefusedError
from cluster.core.records import Chunk, Document, stable_hash
from data_jobs.retrieval.wording import text_stems
from data_jobs.synthetic.paraphrase import faithful, paraphrases
from data_jobs.synthetic.writer import Asked, Synonyms, Writer, good_sentences
from data_jobs.text.chunks import chunk

TAG = "synthetic"
QUESTION, PARAPHRASE = "question", "paraphrase"
PASSAGE_WORDS = 160
SPARE = 3.0  # So many candidates are made for each row wanted, because filters and duplicates take some away.
QUESTION_WORDS, ANSWER_WORDS = (3, 40), (3, 60)
MIN_SHARED_STEMS = 1
# Why a candidate is left out; the closed set of the report.
FILTERS = (
    "not_in_passage", "not_answerable", "too_short", "too_long", "equals_title", "equals_answer", "placeholder",
    "markup", "fragment", "unchanged", "numbers_changed", "names_changed", "negation_changed", "meaning_changed",
    "duplicate", "ambiguous",
)  # fmt: skip
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]*_\d+>")
_FRAGMENT = re.compile(r"^\W*[-*+•!|]\s*|[^.!?。！？\"')\]*_]\s*$")  # a list item, a caption, a line that just ends
_CUT = re.compile(r"\b(?:of|to|the|an?|and|or|in|on|with|that|by|from|as|is|are|its|their|your|which|than)\W*$", re.I)
_MARKUP = re.compile(r"https?://|\]\(|\]\[|[<>{}|`]|\*\*|\\\w")


@dataclass(frozen=True)
class Row:
    """One synthetic row.

    Attributes:
        id: hash of what it says and where it comes from.
        kind: ``synthetic``, always: the tag that keeps it apart from what people wrote.
        form: ``question`` (``text`` asks, ``answer`` answers) or ``paraphrase`` (``text`` says ``answer`` again).
        answer: ``document.text[start:end]``; it stands in ``passage`` = ``document.text[passage_start:passage_end]``.
        rule: the rule that made it; seed: the run's.
    """

    id: str
    kind: str
    form: str
    text: str
    answer: str
    passage: str
    document: str
    title: str
    source: str
    source_name: str
    start: int
    end: int
    passage_start: int
    passage_end: int
    rule: str
    seed: int
    licence: str
    owner: str
    sensitivity: str
    language: str

    def to_dict(self) -> dict[str, Any]:
        """Its fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Settings:
    """What a part needs to know beside its documents. ``weights``: idf per index term; ``rare``: of unknown ones."""

    seed: int
    per_document: int
    weights: dict[str, float]
    rare: float


# -- a part ------------------------------------------------------------------------------------------------------------
def survey(documents: Sequence[Document]) -> tuple[int, Counter[str]]:
    """Number of real documents, and in how many of them each index term stands."""
    real = [document for document in documents if is_real(document)]
    return len(real), Counter(term for document in real for term in text_stems(document.text))


def is_real(document: Document) -> bool:
    """Whether people wrote it. Synthetic text is never made of synthetic text: errors would add up."""
    return document.kind != TAG


def idf(documents: int, frequencies: Counter[str]) -> tuple[dict[str, float], float]:
    """The weight of every term that stands in two documents or more, and that of all others."""
    weights = {term: math.log(1 + documents / count) for term, count in frequencies.items() if count > 1}
    return weights, math.log(1 + documents)


def make(documents: Sequence[Document], settings: Settings) -> tuple[list[Row], Counter[str]]:
    """The candidates of a part that pass the filters, and how many each filter took.

    ``sum(left_out.values()) + len(rows)`` is the number of candidates made.
    """
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for document in documents:
        if not is_real(document):
            continue
        # Seeded by the document: what is made of it does not depend on what else is in its part.
        picker = random.Random(f"{settings.seed}\0{document.id}")  # noqa: S311 (no secret)
        writer = Writer(lambda term: settings.weights.get(term, settings.rare), Synonyms(()), picker, plain=True)
        passages = chunk(document, _words, PASSAGE_WORDS)
        for row, reason in (
            *_questions(document, writer, settings, passages),
            *_paraphrases(document, picker, settings, passages),
        ):
            if reason:
                left_out[reason] += 1
            else:
                rows.append(row)
    return rows, left_out


def _words(text: str) -> int:
    return len(text.split())


def _questions(
    document: Document, writer: Writer, settings: Settings, passages: Sequence[Chunk]
) -> Iterator[tuple[Row, str | None]]:
    # A document's own questions are people's: real data, not synthetic.
    for asked in writer.questions(document, settings.per_document, own=()):
        row = _row(document, QUESTION, asked.question, asked, settings.seed, passages)
        yield row, question_fault(row)


def _paraphrases(
    document: Document, picker: random.Random, settings: Settings, passages: Sequence[Chunk]
) -> Iterator[tuple[Row, str | None]]:
    spans = good_sentences(document)
    for start, end in picker.sample(spans, min(len(spans), 2 * settings.per_document)):
        body = document.text[start:end]
        for rule, said in paraphrases(body):
            asked = Asked(document.id, said, start, end, body, rule)
            row = _row(document, PARAPHRASE, said, asked, settings.seed, passages)
            yield row, paraphrase_fault(row)


def _row(document: Document, form: str, text: str, asked: Asked, seed: int, passages: Sequence[Chunk]) -> Row:
    passage = next((p for p in passages if p.start <= asked.start and asked.end <= p.end), None)
    known = (document.id, asked.start, asked.end, form, asked.manner, text)
    return Row(
        id=stable_hash(known), kind=TAG, form=form, text=text, answer=asked.sentence,
        passage=passage.text if passage else "", document=document.id, title=document.title, source=document.source,
        source_name=document.source_name, start=asked.start, end=asked.end,
        passage_start=passage.start if passage else 0, passage_end=passage.end if passage else 0, rule=asked.manner,
        seed=seed, licence=document.licence, owner=document.owner, sensitivity=document.sensitivity,
        language=document.language,
    )  # fmt: skip


# -- filters -----------------------------------------------------------------------------------------------------------
def question_fault(row: Row) -> str | None:
    """Why a question is left out (one of ``FILTERS``), or None."""
    fault = _fault(row)
    if fault:
        return fault
    if folded(row.text) in (folded(row.title), folded(row.document)):
        return "equals_title"
    asked, answered = text_stems(row.text), text_stems(row.answer)
    if asked == answered or folded(row.text) == folded(row.answer):
        return "equals_answer"
    if len(asked & (text_stems(row.passage) | text_stems(f"{row.title} {row.document}"))) < MIN_SHARED_STEMS:
        return "not_answerable"
    return None


def paraphrase_fault(row: Row) -> str | None:
    """Why a paraphrase is left out (one of ``FILTERS``), or None."""
    return _fault(row) or faithful(row.answer, row.text)


def _fault(row: Row) -> str | None:
    if not row.passage or row.answer not in row.passage:
        return "not_in_passage"
    for text, (least, most) in ((row.text, QUESTION_WORDS), (row.answer, ANSWER_WORDS)):
        if _words(text) < least or len(text) < 10:
            return "too_short"
        if _words(text) > most:
            return "too_long"
    if _PLACEHOLDER.search(row.text) or _PLACEHOLDER.search(row.answer):
        return "placeholder"  # personal data was taken out here: nobody should learn to say the placeholder
    if _MARKUP.search(row.text):
        return "markup"
    if _FRAGMENT.search(row.answer) or _CUT.search(row.text):
        return "fragment"
    return None


def folded(text: str) -> str:
    """Letters and digits only, lower case: what a reader sees as the same."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def key_of(row: Row) -> str:
    """The same for rows that say the same: their content words in any order, or where there are none, all words."""
    stems = sorted(text_stems(row.text))
    said = " ".join(stems) or folded(row.text)
    if row.form == PARAPHRASE:
        said = folded(row.text)  # the same words in another order are what a paraphrase is
    return f"{row.form}:{hashlib.sha256(said.encode()).hexdigest()[:24]}"


def answer_key(row: Row) -> str:
    """The same for answers of the same words."""
    return stable_hash(folded(row.answer))


# -- choosing among all parts ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Candidate:
    """What choosing needs to know of a row."""

    id: str
    key: str
    answer: str  # hash of the answer's words
    document: str
    plain: bool  # a sentence as people say it, rather than search words in a row

    @classmethod
    def of(cls, row: Row) -> Candidate:
        """What the choice among rows has to know of one."""
        return cls(row.id, key_of(row), answer_key(row), row.document, row.rule != "keywords")


@dataclass(frozen=True)
class Allowed:
    """How many rows there may be: ``most`` by the share cap, ``wanted`` of them."""

    wanted: int
    most: int


def allowed(documents: int, cap: float, count: int) -> Allowed:
    """Rows allowed beside ``documents`` real ones so that rows / (rows + documents) <= cap.

    Raises:
        PolicyRefusedError: more were asked for than the cap leaves room for, or it leaves room for none.
    """
    most = math.floor(cap * documents / (1 - cap) + 1e-9) if cap < 1 else max(count, documents)
    rule = f"policy synthetic_share: at most {cap:.0%} of the rows beside {documents} real documents may be synthetic"
    if not most:
        raise PolicyRefusedError(f"{rule}: that is none; give a higher --share", policy="synthetic_share", allowed=0)
    if count > most:
        raise PolicyRefusedError(
            f"{rule}: that is {most}, {count} were asked for; give a lower --count or a higher --share",
            policy="synthetic_share", allowed=most, requested=count,
        )  # fmt: skip
    return Allowed(count or most, most)


def choose(candidates: Sequence[Candidate], wanted: int, seed: int) -> tuple[set[str], Counter[str]]:
    """The ids of the rows to keep, and how many were left out and why.

    Of rows that say the same one stays (``duplicate``); a question that different sentences answer is left out wherever
    it is asked (``ambiguous``). Of the rest ``wanted`` are taken (``not_chosen`` are the others) so that every document
    has one before any has two, whole sentences before search words, else as only the seed and the rows decide.
    """
    left_out: Counter[str] = Counter()
    groups: dict[str, list[Candidate]] = {}
    for one in sorted(candidates, key=lambda c: c.id):
        groups.setdefault(one.key, []).append(one)
    good = []
    for key, members in groups.items():
        if key.startswith(QUESTION) and len({one.answer for one in members}) > 1:
            left_out["ambiguous"] += len(members)
        else:
            good.append(members[0])
            left_out["duplicate"] += len(members) - 1
    order = sorted(good, key=lambda c: (not c.plain, hashlib.sha256(f"{seed}\0{c.id}".encode()).digest()))
    turn: Counter[str] = Counter()
    turns = []
    for one in order:
        turns.append(turn[one.document])
        turn[one.document] += 1
    first = sorted(range(len(order)), key=lambda i: (turns[i], i))
    kept = {order[i].id for i in first[:wanted]}
    left_out["not_chosen"] += len(order) - len(kept)
    return kept, +left_out
