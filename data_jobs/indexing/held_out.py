"""Held-out questions of a corpus, asked of its own index: the evidence that a promised risk rests on.

Rules make them (``data_jobs.synthetic``), half with an answer and half without; all ask prose for what a few sentences
tell, which is what a reader is asked about. *answerable*: made from a sentence of a document, or for a fact that one
states. *left_out*: the same, asked while the document is hidden, so that nothing answers them any more. *contrast*: a
passage asked for what it does not tell (``synthetic.contrast``), where no other passage tells it either. Questions that
people asked are not used: they stand in the index.

There are at most ``MAX_QUESTIONS``. No clock bounds them: what is found becomes part of an index, and equal inputs give
equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from cluster.core.progress import Progress
from cluster.core.records import CODE_KINDS, Document
from data_jobs.retrieval.facts_asked import told_at_once
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.risk import Evidence, Judged
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.support import confidence
from data_jobs.retrieval.wording import text_stems
from data_jobs.synthetic.contrast import ContrastRow, contrast_rows
from data_jobs.synthetic.rows import QUESTION, Settings, folded, idf, make, survey

ANSWERABLE, LEFT_OUT, CONTRAST = "answerable", "left_out", "contrast"
MAX_QUESTIONS = 200
PER_DOCUMENT = 16  # most questions of one document; a small folder needs that many
MAX_SAMPLED, MAX_CONTRASTED = 600, 200  # documents that questions are made of
SAVE_EVERY = 25
ALIKE = 0.6  # share of a sentence's words from which another sentence says the same
SEED = 11
RULES = ("how", "what")  # a title tells what its document is about, not what it answers
MISSING = ("attribute", "entity", "action", "number")  # kinds of contrast that hold for more than one window


@dataclass(frozen=True)
class HeldOut:
    """A question, the document it is about, and the sentence that answers it (of ``contrast``: none)."""

    kind: str
    question: str
    document: str
    sentence: str = ""


def held_out_questions(documents: Sequence[Document], count: int = MAX_QUESTIONS, seed: int = SEED) -> list[HeldOut]:
    """At most ``count`` questions, kinds in turn, so that any first part of them is mixed alike.

    The same documents and seed give the same questions. Answerable ones are as many as the others together.
    """
    prose = [document for document in documents if document.kind not in CODE_KINDS]
    order = sorted(prose, key=lambda d: hashlib.sha256(f"{seed}\0{d.id}".encode()).digest())[:MAX_SAMPLED]
    contrasts = list(contrast_rows(order[:MAX_CONTRASTED], seed))
    told = _spread(one for one in (*_facts(contrasts), *_written(order, count, seed)) if told_at_once(one.question))
    contrast = _spread(
        HeldOut(CONTRAST, row.question, row.document)
        for row in contrasts
        if row.kind in MISSING and told_at_once(row.question)
    )[: count // 4]  # fmt: skip
    hidden = max(0, min(count // 2 - len(contrast), (len(told) - len(contrast)) // 2))
    left_out = [replace(one, kind=LEFT_OUT) for one in told[1 : 2 * hidden : 2]]
    without = _in_turn(contrast, left_out)
    answerable = [*told[0 : 2 * hidden : 2], *told[2 * hidden :]][: len(without)]
    return _in_turn(answerable, without[: len(answerable)])


def _written(documents: Sequence[Document], count: int, seed: int) -> Iterator[HeldOut]:
    """Questions that the filters of synthetic data let pass."""
    number, frequencies = survey(documents)
    each = max(1, min(PER_DOCUMENT, -(-2 * count // max(1, number))))
    rows, _ = make(documents, Settings(seed, each, *idf(number, frequencies)))
    for row in rows:
        if row.form == QUESTION and row.rule in RULES:
            yield HeldOut(ANSWERABLE, row.text, row.document, row.answer)


def _facts(rows: Iterable[ContrastRow]) -> Iterator[HeldOut]:
    """Questions for a fact that a sentence states."""
    for row in rows:
        if row.answer:
            yield HeldOut(ANSWERABLE, row.question, row.document, row.text)


def _spread(questions: Iterable[HeldOut]) -> list[HeldOut]:
    """Each wording once, one of every document before two of any."""
    turns: Counter[str] = Counter()
    found: dict[str, tuple[int, HeldOut]] = {}
    for one in questions:
        if (key := folded(one.question)) not in found:
            turns[one.document] += 1
            found[key] = turns[one.document], one
    return [one for _, one in sorted(found.values(), key=lambda pair: pair[0])]


def _in_turn(first: Sequence[HeldOut], second: Sequence[HeldOut]) -> list[HeldOut]:
    """One of each in turn; what is left over of the longer one comes last."""
    paired = [one for pair in zip(first, second, strict=False) for one in pair]
    shorter = min(len(first), len(second))
    return [*paired, *first[shorter:], *second[shorter:]]


def judge(searcher: Searcher, asked: HeldOut) -> Judged | None:
    """Ask one question as the service does; None where it cannot be said what is right: another document says the same
    as the one left out, or a sentence has all words of a question that is meant to have no answer."""
    hidden = asked.kind == LEFT_OUT
    found = searcher.search(asked.question, without=(asked.document,) if hidden else ())
    if hidden and any(_alike(s.text, asked.sentence) for s in found.sentences):
        return None
    if asked.kind == CONTRAST and _may_be_told(found, asked.question):
        return None
    answerable = asked.kind == ANSWERABLE
    sure = round(confidence(asked.question, found).probability, 4)
    return Judged(asked.kind, answerable, sure, answerable and _supported(found, asked))


def _supported(found: Retrieval, asked: HeldOut) -> bool:
    """Whether what the reader takes for the answer is of the right document, or says the same."""
    if not found.readings:
        return bool(found.passages) and found.passages[0].document == asked.document
    best = max(found.readings, key=lambda reading: reading.answerable)
    passage = found.passages[best.passage]
    window = passage.text[best.start - passage.start : best.end - passage.start]
    return passage.document == asked.document or _alike(window, asked.sentence)


def _may_be_told(found: Retrieval, question: str) -> bool:
    wanted = text_stems(question)
    return any(wanted <= text_stems(f"{found.passages[s.passage].title} {s.text}") for s in found.sentences)


def _alike(text: str, sentence: str) -> bool:
    wanted = text_stems(sentence)
    return bool(wanted) and (
        len(wanted & text_stems(text)) >= ALIKE * len(wanted) or folded(sentence) in folded(text)
    )  # fmt: skip


def gather(
    searcher: Searcher,
    documents: Sequence[Document],
    progress: Progress,
    before: bytes = b"",
    save: Callable[[bytes], None] | None = None,
    count: int = MAX_QUESTIONS,
) -> Evidence:
    """Make the questions and ask them all.

    Args:
        searcher: of the index in question, with its reader.
        documents: what it was made of.
        before: what ``save`` was last given in an earlier run of the same work.
        save: keeps what is known so far, now and then.
        count: most questions.
    """
    questions = held_out_questions(documents, count)
    known: dict[str, dict[str, object] | None] = json.loads(before) if before else {}
    progress.stage("promise a risk", len(questions), "questions")
    judged = list[Judged]()
    for number, asked in enumerate(questions, 1):
        key = f"{asked.kind}\0{asked.question}"
        if key not in known:
            made = judge(searcher, asked)
            known[key] = asdict(made) if made else None
            if save and number % SAVE_EVERY == 0:
                save(json.dumps(known).encode())
        row = known[key]
        if row is not None:
            judged.append(Judged(**row))  # type: ignore[arg-type]
        progress.advance()
    return Evidence(searcher.reader.fingerprint, len(documents), tuple(judged))
