"""Sections and the questions put to them: what is read from a file, and what is found, read and quoted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import BadInputError
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval
from train_jobs.evaluation.faq import BANK, ask, load_sections
from train_jobs.evaluation.paraphrases import Labelled


def test_the_shipped_sections_are_whole() -> None:
    sections = load_sections(BANK)
    assert len({one.id for one in sections}) == len({one.title for one in sections}) == 77
    assert all(60 <= len(one.text.split()) - len(one.title.split()) <= 121 for one in sections)
    assert all(one.text.startswith(f"# {one.title}\n") and "##" not in one.text for one in sections)


def test_sections_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "sections.md"
    path.write_text("## a: Opening hours\n\nFrom nine.\n\nTo five.\n## b: Where: the place\nHere.\n")
    first, second = load_sections(path)
    assert (first.id, first.title, first.text) == ("a", "Opening hours", "# Opening hours\nFrom nine.\n\nTo five.\n")
    assert (second.id, second.title, second.text) == ("b", "Where: the place", "# Where: the place\nHere.\n")
    for wrong in ("no heading", "## a: A\nText.\n## a: B\nText.\n"):
        path.write_text(wrong)
        with pytest.raises(BadInputError, match="label"):
            load_sections(path)


class Finding:
    """Finds nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def search(self, question: str, k: int | None = None) -> Retrieval:
        self.asked.append(question)
        return Retrieval(question)


def test_every_question_is_searched_quoted_and_embedded() -> None:
    searcher, done, batches = Finding(), list[int](), list[int]()

    def encode(texts: Sequence[str]) -> np.ndarray:
        batches.append(len(texts))
        return np.eye(len(texts), dtype=np.float32)

    data = Labelled(("Where is it?", "When?"), ("a", "b"))
    found = ask(data, searcher, encode, AnswerSection(), lambda: done.append(1))
    assert (searcher.asked, done, batches) == (["Where is it?", "When?"], [1, 1], [2])
    assert [(one.question, one.label, one.found.question) for one in found] == [
        ("Where is it?", "a", "Where is it?"), ("When?", "b", "When?")
    ]  # fmt: skip
    assert [one.vector.tolist() for one in found] == [[1, 0], [0, 1]]
    assert [one.made.reason for one in found] == ["no_passages", "no_passages"]
    assert ask(Labelled((), ()), searcher, encode, AnswerSection()) == []
