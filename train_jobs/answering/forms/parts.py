"""Comparisons and several questions in one: each part answered or refused by itself, then put side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cluster.core.records import Answer, Citation
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.asking import COMPARISON, Form, form_of
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.wording import text_stems

MISSING = "the documents do not cover this."
PART_WORDS = 2 / 3  # of the words of one answer that each part may have

Answering = Callable[[str, Retrieval, AnswerSection, int], Answer]


def in_parts(question: str, retrieval: Retrieval, section: AnswerSection, answering: Answering) -> Answer | None:
    """An answer made of the parts' own; None where the search found no parts, or none of them has an answer.

    Args:
        answering: answers one part: its question, its search, the limits, and how many markers are taken.
    """
    form, parts = form_of(question), retrieval.understood.parts
    if not parts:
        return None
    limits = section.model_copy(
        update={
            "max_citations": 1 if form.name == COMPARISON else max(1, section.max_citations // len(parts)),
            "max_words": max(10, int(section.max_words * PART_WORDS)),
        }
    )
    answers: list[Answer] = []
    cited: list[Citation] = []
    for part in parts:
        made = answering(part.question, part, limits, len(cited))
        if form.name == COMPARISON and made.grounded and not _speaks_of(made, part.question):
            made = replace(made, grounded=False, citations=())
        answers.append(made)
        cited += made.citations if made.grounded else ()
    if not any(made.grounded for made in answers):
        return None
    whole = all(made.grounded for made in answers)
    named = [_named(form, number, part.question) for number, part in enumerate(parts)]
    return Answer(
        text="\n\n".join(_line(form, number, *pair) for number, pair in enumerate(zip(named, answers, strict=True), 1)),
        citations=tuple(cited),
        grounded=True,
        reason="supported" if whole else "partly_supported",
        confidence=min(made.confidence for made in answers if made.grounded),
        dropped_passages=max(made.dropped_passages for made in answers),
        form=form.name,
        not_found=tuple(name for name, made in zip(named, answers, strict=True) if not made.grounded),
    )


def _speaks_of(made: Answer, question: str) -> bool:
    """Whether what is cited for a side of a comparison has the side's name: something near it is not the side."""
    asked = text_stems(question)
    return any(asked <= text_stems(f"{c.document}\n{c.title}\n{c.text}") for c in made.citations[:1])


def _named(form: Form, number: int, question: str) -> str:
    return (form.subject, form.other)[number] if form.name == COMPARISON else question


def _line(form: Form, number: int, name: str, made: Answer) -> str:
    if not made.grounded:
        return f"{name}: {MISSING}" if form.name == COMPARISON else f'{number}. "{name}": {MISSING}'
    if form.name != COMPARISON:
        return f"{number}. {made.text}"
    return made.text if made.text.lower().startswith(name.lower()) else f"{name}: {made.text}"
