"""Lists and summaries out of the index's structure: names below a code object, documents of a folder, headings of a
file, and how a document opens. Nothing but names, numbers and verbatim sentences."""

from __future__ import annotations

from cluster.core.records import CODE_KINDS, Answer
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.asking import DEFINITION, LIST, SIGNATURE, SUMMARY, Form, form_of
from data_jobs.retrieval.outline import opening_sentences
from data_jobs.retrieval.results import OutlineFound, Retrieval
from data_jobs.retrieval.support import NAMED
from train_jobs.answering.citations import cite, quotation, unmarked
from train_jobs.answering.forms.code import signature

MAX_PARTS = 30  # names that one answer lists; it says how many more there are
SUMMARY_PARTS = 8
OPENING = 2  # sentences of a summary
FROM_STRUCTURE = (LIST, SUMMARY, DEFINITION, SIGNATURE)


def from_structure(
    question: str, retrieval: Retrieval, section: AnswerSection, first: int | None = None
) -> Answer | None:
    """The list or summary that a question asks for; None where it asks for neither, or no document is named.

    Args:
        first: markers that earlier parts of the same answer took; None where there are no other parts.
    """
    form, outline = form_of(question), retrieval.understood.outline
    if outline is None or not outline.passages or form.name not in FROM_STRUCTURE:
        return None
    marker = (first or 0) + 1
    if form.name == LIST:
        text = _listed(form, outline, marker)
    elif form.name == SUMMARY:
        text = _summary(outline, section.max_words, marker)
    else:
        text = _object(outline, section.max_words, marker)
    if not text:
        return None
    citations = tuple(cite(passage) for passage in outline.passages[: section.max_citations if first is None else 1])
    return Answer(text, citations, True, "supported", max(NAMED, section.min_confidence or 0.0), form=form.name)


def _object(outline: OutlineFound, max_words: int, marker: int) -> str:
    """A code object by its name: what its documentation opens with, and its signature."""
    passage = outline.passages[0]
    spans = opening_sentences(passage.text, passage.header, 1)
    said = outline.document
    for start, end in spans:
        if quote := quotation(outline.passages, 0, passage.start + start, passage.start + end, max_words - 4):
            said += f' — "{quote.said(outline.passages)}"'
    return f"{said} [{marker}]" + (f"\n\n{signature(passage)}" if "(" in passage.title else "")


def _listed(form: Form, outline: OutlineFound, marker: int) -> str:
    if not outline.parts:
        return ""
    count = len(outline.parts)
    noun = form.wanted if count == 1 else _plural(form.wanted)
    return f"{_called(outline)} has {count} {noun}: {_shown(outline, MAX_PARTS)} [{marker}]"


def _summary(outline: OutlineFound, max_words: int, marker: int) -> str:
    passage = outline.passages[0]
    quotes = [
        quote.said(outline.passages)
        for start, end in opening_sentences(passage.text, passage.header, OPENING)
        if (quote := quotation(outline.passages, 0, passage.start + start, passage.start + end, max_words // 2))
    ]
    if not quotes and not outline.parts:
        return ""
    said = f"Summary of {_called(outline)} (its own first sentences and headings):"
    if quotes:
        # Each by itself: a heading may stand between them.
        said += " " + " ".join(f'"{quote}"' for quote in quotes) + f" [{marker}]"
    if outline.parts:
        kind = "Sections" if outline.headings else "In it"
        said += f" {kind}: {_shown(outline, SUMMARY_PARTS)} [{marker}]"
    return said


def _called(outline: OutlineFound) -> str:
    return outline.document if outline.kind in CODE_KINDS else unmarked(outline.title or outline.document)


def _shown(outline: OutlineFound, most: int) -> str:
    own = f"{outline.document}."
    names = [part.removeprefix(own) if outline.kind in CODE_KINDS else part for part in outline.parts]
    between = "; " if any("," in name or " " in name for name in names) else ", "
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return unmarked(between.join(names[:most])) + more


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
