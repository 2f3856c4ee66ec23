"""From one extracted record to a document worth keeping: the steps in ``STEPS``, one after the other.

A step is a pure function of a draft and the rules: it gives back the draft, changed or not, or leaves the record out
for a reason, which stands in the dataset's books. To add one, write the function and put it into ``STEPS``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from cluster.core.records import Document, Dropped, Quarantined
from cluster.core.sections.data import DataSection
from data_jobs.corpus.packs import CleanedItem
from data_jobs.filters.decontaminate import REASON as CONTAMINATED
from data_jobs.filters.decontaminate import EvaluationSets
from data_jobs.filters.dedup import fingerprint
from data_jobs.filters.quality import count_words, judge
from data_jobs.governance.tombstones import Tombstones, text_sha256
from data_jobs.pii import MODEL_TYPES, NameFinder, redact
from data_jobs.sources.records import clean_title
from data_jobs.text.language import UNDETERMINED, detect
from data_jobs.text.normalise import normalise
from data_jobs.text.questions import clean_questions

FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class CleaningRules:
    """What the steps go by: the settings, what was forgotten, and the evaluation sets to keep out of the corpus."""

    section: DataSection
    forgotten: Tombstones
    evaluation: EvaluationSets | None = None


@dataclass(frozen=True)
class Draft:
    """A document on its way through the steps; ``pii`` has the type of each piece of personal data taken out."""

    document: Document
    pii: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """Why a step leaves a record out; ``similarity`` and ``detail`` as in ``records.Dropped``."""

    reason: str
    similarity: float = 0.0
    detail: str = ""


def normalise_texts(draft: Draft, rules: CleaningRules) -> Draft:
    """Title, text and questions in their stored form, and the language where the record does not say it."""
    old = draft.document
    title, text = clean_title(normalise(old.title)), normalise(old.text)
    steps = (*old.steps, "normalised") if text != old.text else old.steps
    return replace(draft, document=replace(
        old, title=title, text=text, questions=clean_questions(old.questions), steps=steps,
        language=old.language or detect(text)[0],
    ))  # fmt: skip


def check_quality(draft: Draft, rules: CleaningRules) -> Draft | LeftOut:
    """Leaves out texts that break a rule of the profile ``data.quality``; the reason is the rule's name."""
    document, section = draft.document, rules.section
    judgement = judge(document.text, section.min_words, section.quality, document.language)
    return draft if judgement.keep else LeftOut(judgement.reason)


def check_language(draft: Draft, rules: CleaningRules) -> Draft | LeftOut:
    """Leaves out other languages than ``data.languages``; a text whose language cannot be told stays."""
    wanted = rules.section.languages
    return draft if not wanted or draft.document.language in (*wanted, UNDETERMINED) else LeftOut("language")


def check_evaluation_sets(draft: Draft, rules: CleaningRules) -> Draft | LeftOut:
    """Leaves out documents that hold an item of an evaluation set (``data.decontaminate``)."""
    found = rules.evaluation.overlap(draft.document.text) if rules.evaluation else None
    if not found:
        return draft
    detail = f"{found.evaluation} item {found.item}, {found.document_share:.1%} of the document"
    return LeftOut(CONTAMINATED, found.item_share, detail)


def redact_personal_data(draft: Draft, rules: CleaningRules) -> Draft:
    """Placeholders for personal data (``data.redact``) in title, text and questions."""
    document, section = draft.document, rules.section
    # The names in public documents are public: of authors, of people written about. What is asked of them needs both.
    public = section.names == "auto" and document.sensitivity == "public"
    names = None if public or MODEL_TYPES.isdisjoint(section.redact) else _names(section.names)
    text, found = redact(document.text, section.redact, names)
    title, in_title = redact(document.title, section.redact, names)
    asked = [redact(question, section.redact, names) for question in document.questions]
    types = tuple(finding.type for finding in (*found, *in_title, *(f for _, more in asked for f in more)))
    steps = (*document.steps, *(f"redacted:{kind}" for kind in sorted(set(types))))
    questions = clean_questions(question for question, _ in asked)
    return Draft(replace(document, text=text, title=title, questions=questions, steps=steps), types)


def check_forgotten(draft: Draft, rules: CleaningRules) -> Draft | LeftOut:
    """Leaves out what somebody asked to be forgotten, by its name or its text as it would be stored."""
    return LeftOut(FORGOTTEN) if is_forgotten(draft.document, rules.forgotten) else draft


Step = Callable[[Draft, CleaningRules], Draft | LeftOut]
STEPS: tuple[Step, ...] = (
    normalise_texts, check_quality, check_language, check_evaluation_sets, redact_personal_data, check_forgotten,
)  # fmt: skip


def clean_records(records: Iterable[Document | Quarantined], rules: CleaningRules) -> CleanedItem:
    """What becomes of the records of one item; depends on nothing but them and the rules."""
    item = CleanedItem()
    for record in records:
        if isinstance(record, Quarantined):
            item.quarantined.append(record)
            continue
        draft = Draft(record)
        for step in STEPS:
            after = step(draft, rules)
            if isinstance(after, LeftOut):
                item.dropped.append(_dropped(draft.document, after))
                break
            draft = after
        else:
            item.rows.append(_row(draft))
    return item


def _dropped(document: Document, left: LeftOut) -> Dropped:
    return Dropped(
        document.id, document.source, "filtered", left.reason, similarity=left.similarity, detail=left.detail
    )


def _row(draft: Draft) -> dict[str, Any]:
    """The document with its sketch for deduplication, as ``contracts.CLEAN_SCHEMA`` has it."""
    sketch, document = fingerprint(draft.document), draft.document
    return {
        **document.to_dict(), "exact": sketch.exact, "group": sketch.group, "minhash": sketch.minhash,
        "subject": sketch.subject, "numbers": sketch.numbers,
        "words": count_words(document.text), "pii": list(draft.pii),
    }  # fmt: skip


@functools.cache
def _names(setting: str) -> NameFinder | None:
    from data_jobs.pii.names import load_names

    return load_names(setting)


def is_forgotten(document: Document, forgotten: Tombstones) -> bool:
    """Whether a tombstone names the document, or covers its stored text or the whole file that it is."""
    if not forgotten:
        return False
    whole_file = document.file_sha256 if document.kind == "file" and document.span[:1] == (0,) else ""
    return forgotten.covers(document.id, document.source_name, document.source) or forgotten.covers_content(
        text_sha256(document.text), whole_file
    )
