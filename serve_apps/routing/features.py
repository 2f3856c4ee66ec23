"""What the router looks at in a question and the passages found for it."""

from __future__ import annotations

from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.asking import COMPARISON, LIST, SIGNATURE, SUMMARY, TWO, YES_NO, form_of
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.terms import question_terms
from serve_apps.routing.rules import Features
from train_jobs.answering.abstention import support
from train_jobs.answering.forms.code import asks_for_example

FORMS = (COMPARISON, LIST, SIGNATURE, SUMMARY, TWO, YES_NO)


def features_of(question: str, retrieval: Retrieval, section: AnswerSection) -> Features:
    """Support of the passages, whether the question names one of the documents found, and whether it asks for a form
    of its own."""
    question = retrieval.understood.searched_for or question
    verdict = support(question, retrieval, section.min_confidence)
    named = {term.text.lower() for term in question_terms(question) if term.identifier}
    return Features(
        support=verdict.probability,
        supported=verdict.grounded,
        names_document=any(p.document.lower() in named or p.document in retrieval.called for p in retrieval.passages),
        form=form_of(question).name in FORMS or asks_for_example(question),
    )
