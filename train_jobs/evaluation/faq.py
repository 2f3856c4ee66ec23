"""Sections of help pages, one for each label, and labelled questions put to an index of them.

``suites/bank_faq.md`` has one section for each intent of Banking77 (Casanueva et al. 2020), written for this purpose
without looking at its questions, which come without answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import BadInputError
from cluster.core.records import Answer, Document
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval
from train_jobs.answering.conversation import standalone_question
from train_jobs.answering.quote import answer
from train_jobs.evaluation.answerer import Searching
from train_jobs.evaluation.paraphrases import Labelled, Vectors

BANK = Path(__file__).with_name("suites") / "bank_faq.md"
_HEAD = re.compile(r"^## (?P<label>\S+): (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of one question: what was found and read, what the quote tier made of it, and its unit vector."""

    question: str
    label: str
    found: Retrieval
    made: Answer
    vector: Vectors


def load_sections(path: Path = BANK) -> list[Document]:
    """The sections of a file, each ``## label: title`` and its text; ``id`` is the label.

    Raises:
        BadInputError: it has none, or two of one label.
    """
    text = path.read_text(encoding="utf-8")
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    found = {
        head["label"]: Document(
            id=head["label"], title=head["title"], source=path.name,
            text=f"# {head['title']}\n{text[head.end() : end].strip()}\n",
        )
        for head, end in zip(heads, ends, strict=bool(heads))
    }  # fmt: skip
    if not found or len(found) < len(heads):
        raise BadInputError(f"{path}: sections begin with '## label: title', each label once")
    return list(found.values())


def ask(
    data: Labelled,
    searcher: Searching,
    encode: Callable[[Sequence[str]], Vectors],
    section: AnswerSection,
    on_question: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Search and quote for every question, as the service does.

    Args:
        encode: unit vectors of questions, float32 [n, d], as the search makes them.
    """
    questions = [standalone_question([("user", text)]) for text in data.texts]
    vectors = encode(questions) if questions else ()
    found = []
    for question, label, vector in zip(questions, data.labels, vectors, strict=True):
        retrieval = searcher.search(question)
        found.append(Outcome(question, label, retrieval, answer(question, retrieval, section), vector))
        on_question()
    return found
