"""Stock search and what was learnt, asked the same questions: where the right passage stands, and how sure the gain is.

Both are asked as the service asks (``Searcher.find``), on documents that nothing was learnt of, and on a frozen set
that ships with the product: the pages of ``evaluation/suites/folders`` with their questions, and nothing of anybody's
corpus. Intervals resample whole documents: questions of one are alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.records import Document, Passage
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.question_map import QuestionMap
from data_jobs.retrieval.question_vectors import QuestionVectors
from data_jobs.retrieval.search import Searcher
from train_jobs.adaptation.asking import AskedOf
from train_jobs.evaluation.folders import load_folders
from train_jobs.evaluation.held_out import paired
from train_jobs.evaluation.local_index import searcher_over
from train_jobs.evaluation.metrics import contains_gold

DEPTH, FIRST = 10, 5  # passages looked at; recall counts the first five
AT_ONCE = 256  # questions embedded together


@dataclass(frozen=True)
class ToJudge:
    """A question, its document, and which passages answer it: those that hold [start, end), or one of ``answers``;
    any of the document where neither is known. ``group``: what questions are alike by; ``manner``: who wrote it."""

    question: str
    document: str
    group: str
    manner: str
    start: int = 0
    end: int = 0
    answers: tuple[str, ...] = ()

    @classmethod
    def of(cls, asked: AskedOf) -> ToJudge:
        """A made question."""
        return cls(asked.question, asked.document, asked.document, asked.manner, asked.start, asked.end)

    def answered_by(self, passage: Passage) -> bool:
        """Whether a passage is a right one."""
        if passage.document != self.document:
            return False
        if self.answers:
            return contains_gold(passage.text, self.answers)
        return self.start == self.end or (passage.start <= self.start and self.end <= passage.end)


@dataclass(frozen=True)
class Judged:
    """A question with the place (from 1) of its first right passage before and after; 0: not among ``DEPTH``."""

    question: str
    group: str
    manner: str
    before: int
    after: int


def both(stock: Searcher, learnt: QuestionMap, vectors: QuestionVectors) -> tuple[Searcher, Searcher]:
    """Search without and with what was learnt, over one index and one set of question vectors."""
    models = (stock.reranker, None, None, vectors)
    before, after = (
        Searcher(replace(stock.snapshot, question_map=change), stock.embedder, stock.section, *models)
        for change in (None, learnt)
    )
    hidden = {stock.snapshot.chunks[row].document for row in stock.hidden}
    before.hide(hidden)
    after.hide(hidden)
    return before, after


def ask_both(
    stock: Searcher, learnt: QuestionMap, questions: Sequence[ToJudge], on_asked: Callable[[], None] = lambda: None
) -> list[Judged]:
    """Ask both each question."""
    if not questions:
        return []
    vectors = QuestionVectors(stock.embedder)
    before, after = both(stock, learnt, vectors)
    found = []
    for number, one in enumerate(questions):
        if number % AT_ONCE == 0:
            vectors.prepare([asked.question for asked in questions[number : number + AT_ONCE]])
        places = (_place(searcher.find(one.question, DEPTH).passages, one) for searcher in (before, after))
        found.append(Judged(one.question, one.group, one.manner, *places))
        on_asked()
    return found


def _place(passages: Sequence[Passage], asked: ToJudge) -> int:
    return next((n for n, passage in enumerate(passages, 1) if asked.answered_by(passage)), 0)


def figures(judged: Sequence[Judged], level: float = 0.95) -> dict[str, Any]:
    """``questions``, ``groups``, and of ``mrr`` and ``recall`` (among the first five) the means before and after with
    the paired difference and its interval of ``level``; all None where nothing was asked."""
    groups = [one.group for one in judged]
    rows: dict[str, Any] = {"questions": len(judged), "groups": len(set(groups)), "level": round(level, 4)}
    for name, value in (("mrr", _reciprocal), ("recall", _recalled)):
        sides = [np.array([value(getattr(one, side)) for one in judged]) for side in ("before", "after")]
        before, after = (float(side.mean()) if len(side) else None for side in sides)
        rows[name] = {"before": before, "after": after, **paired((sides[1] - sides[0]).tolist(), groups, level)}
    return rows


def _reciprocal(place: int) -> float:
    return 1 / place if place else 0.0


def _recalled(place: int) -> float:
    return float(0 < place <= FIRST)


def shipped_set(config: PlinthConfig, embedder: Embedder) -> tuple[Searcher, list[ToJudge]]:
    """The frozen set: all shipped folders as one small index, and the questions that their pages answer."""
    documents: list[Document] = []
    questions: list[ToJudge] = []
    for folder in load_folders():
        documents += [replace(d, id=f"{folder.name}/{d.id}") for d in folder.documents]
        for question, page in folder.answerable:
            name = f"{folder.name}/{page}"
            questions.append(ToJudge(question, name, name, "people"))
    retrieval = config.retrieval.model_copy(update={"reranker": ""})
    return searcher_over(documents, config.index, retrieval, embedder), questions


def asked_by_people(path: Path, documents: Collection[str]) -> list[ToJudge]:
    """Questions of a JSONL file of {question, document, answers?}: they judge, and nothing is learnt of them.

    Raises:
        BadInputError: a line is no such row, or of a document that the index does not have.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            question, document, answers = row["question"], row["document"], tuple(row.get("answers", ()))
            good = all(isinstance(text, str) and text.strip() for text in (question, document, *answers))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            good = False
        if not good:
            raise BadInputError(f"{path}:{number}: not a row of {{question, document, answers?}}, all texts")
        if document not in documents:
            raise BadInputError(f"{path}:{number}: the index has no document {document!r}")
        found.append(ToJudge(question, document, document, "people", answers=answers))
    if not found:
        raise BadInputError(f"{path} holds no question")
    return found


def rows_of(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """As JSON."""
    return [asdict(one) for one in judged]
