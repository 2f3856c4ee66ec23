"""Questions of SQuAD 2 asked of its own paragraphs: the suite ``squad``.

All paragraphs are indexed; asked is about the titles that the reader learnt nothing of (``squad_titles``). Half of the
questions have no answer: they differ from one that has in a detail, and are to be refused. What is quoted is right
where a gold answer stands in it (SQuAD's normalisation), whatever else it says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress, Silent
from data_jobs.indexing.held_out import gather
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.passage_reader import PassageReader
from train_jobs.evaluation.answerer import InProcessAnswerer
from train_jobs.evaluation.local_index import searcher_over
from train_jobs.evaluation.metrics import Rate, contains_gold
from train_jobs.recipes.reader_rows import squad_documents, squad_titles

SET = "qa_squad2"
MEASURES = ("answered", "refused", "quoted", "quoted_of_answered", "cited_first", "found_first")
"""answered: answerable questions not refused. refused: the others refused. quoted: answerable questions with a gold
answer in the text of a given answer; quoted_of_answered: of those answered. cited_first: answered answerable questions
whose first citation is the right paragraph; found_first: of the same, those that the search alone puts it first for."""


@dataclass(frozen=True)
class Asked:
    """A question: its paragraph's title and id, and its gold answers, none where the paragraph does not tell."""

    title: str
    paragraph: str
    question: str
    golds: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one question; ``first`` and ``found`` are the first documents cited and found."""

    title: str
    question: str
    answerable: bool
    grounded: bool
    quoted: bool
    paragraph: str
    first: str
    found: str
    confidence: float
    text: str
    ms: float


def load_asked(data: Path) -> list[Asked]:
    """The questions about titles that the reader learnt nothing of.

    Args:
        data: the folder that holds ``qa_squad2`` with ``contexts.jsonl`` and ``questions.jsonl``.

    Raises:
        BadInputError: it does not, or a line is no question.
    """
    try:
        titles = set(squad_titles(data)[1])
        return [_asked(row) for row in _rows(data / SET / "questions.jsonl") if row["title"] in titles]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{data} holds no {SET} with contexts.jsonl and questions.jsonl: {error!r}") from error


def _asked(row: dict[str, Any]) -> Asked:
    golds = () if row["is_impossible"] else tuple(row["answers"])
    return Asked(row["title"], row["context_id"], row["question"].strip(), golds)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            yield json.loads(line)


def ask_squad(
    data: Path,
    config: PlinthConfig,
    embedder: Embedder,
    reader: PassageReader,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> tuple[list[Outcome], str]:
    """Index all paragraphs here and now, promise a risk where there is a reader, and ask.

    Returns:
        The outcomes, and what is promised, in words.

    Raises:
        BadInputError: as ``load_asked``.
    """
    progress = progress or Silent()
    asked = load_asked(data)
    documents = squad_documents(data, [title for half in squad_titles(data) for title in half])
    progress.stage("embed", len(documents), "paragraphs")
    searcher = searcher_over(documents, config.index, config.retrieval, embedder, cache, "squad")
    searcher.reader = reader
    evidence = gather(searcher, documents, progress) if reader.reads else None
    promised = evidence.promise(config.answer.max_risk) if evidence else None
    searcher.threshold = promised.threshold if promised else None
    answerer = InProcessAnswerer(searcher, config.answer)
    progress.stage("asking", len(asked), "questions")
    found = []
    for one in asked:
        found.append(_judged(one, answerer))
        progress.advance()
    return found, evidence.said(config.answer.max_risk) if evidence else "no reader"


def _judged(asked: Asked, answerer: InProcessAnswerer) -> Outcome:
    reply = answerer.ask(asked.question)
    made = reply.answer
    first = made.citations[0].document if made.citations else ""
    found = reply.retrieved[0] if reply.retrieved else ""
    quoted = made.grounded and contains_gold(made.text, asked.golds)
    return Outcome(asked.title, asked.question, bool(asked.golds), made.grounded, quoted, asked.paragraph, first, found,
                   round(made.confidence, 4), made.text, round(reply.ms, 1))  # fmt: skip


def rates(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Rate]]:
    """Of all, and by title, the measures with their intervals."""
    titles = dict.fromkeys(one.title for one in outcomes)
    return {"all": _rates(outcomes), **{t: _rates([one for one in outcomes if one.title == t]) for t in titles}}


def _rates(outcomes: Sequence[Outcome]) -> dict[str, Rate]:
    told = [one for one in outcomes if one.answerable]
    given = [one for one in told if one.grounded]
    return {
        "answered": Rate.of(one.grounded for one in told),
        "refused": Rate.of(not one.grounded for one in outcomes if not one.answerable),
        "quoted": Rate.of(one.quoted for one in told),
        "quoted_of_answered": Rate.of(one.quoted for one in given),
        "cited_first": Rate.of(one.first == one.paragraph for one in given),
        "found_first": Rate.of(one.found == one.paragraph for one in given),
    }


def balanced(answered: Rate, refused: Rate) -> tuple[float, float, float]:
    """Balanced accuracy of abstention, the mean of both rates, with its 95 % interval: the two Wilson intervals put
    together by the square-and-add method (Newcombe 1998). All NaN where one of the two was not counted."""
    parts = [(rate.value, *rate.interval) for rate in (answered, refused) if rate.value is not None]
    if len(parts) < 2:
        return math.nan, math.nan, math.nan
    value = sum(p for p, _, _ in parts) / 2
    below, above = (math.hypot(*(p[0] - p[side] for p in parts)) / 2 for side in (1, 2))
    return value, value - below, value + above
