"""From one extracted record to a document worth keeping: normalise, judge, redact, sketch; a pure function of it.

Each step is one line in ``clean_records``. What a record is left out for becomes its reason in the books.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace

from cluster.core.records import Document, Dropped, Quarantined
from cluster.core.sections.data import DataSection
from data_jobs.corpus.packs import Outcome
from data_jobs.filters.decontaminate import REASON as CONTAMINATED
from data_jobs.filters.decontaminate import EvaluationSets
from data_jobs.filters.dedup import fingerprint
from data_jobs.filters.quality import count_words, judge
from data_jobs.governance.tombstones import Tombstones, text_sha256
from data_jobs.pii import NameFinder, redact
from data_jobs.sources.records import clean_title
from data_jobs.text.language import UNDETERMINED, detect
from data_jobs.text.normalise import normalise
from data_jobs.text.questions import clean_questions

FORGOTTEN = "forgotten"


def clean_records(
    records: Iterable[Document | Quarantined],
    section: DataSection,
    forgotten: Tombstones,
    evaluation: EvaluationSets | None = None,
) -> Outcome:
    """What becomes of the records of one item; depends on nothing but them, the settings and what was forgotten.

    Args:
        evaluation: documents that hold text of these sets are left out.
    """
    outcome = Outcome()
    for record in records:
        if isinstance(record, Quarantined):
            outcome.quarantined.append(record)
            continue
        document = normalised(record)
        reason = _unwanted(document, section)
        if reason:
            outcome.dropped.append(Dropped(document.id, document.source, "filtered", reason))
            continue
        overlap = evaluation.overlap(document.text) if evaluation else None
        if overlap:
            outcome.dropped.append(
                Dropped(
                    document.id, document.source, "filtered", CONTAMINATED, similarity=overlap.item_share,
                    detail=f"{overlap.evaluation} item {overlap.item}, {overlap.document_share:.1%} of the document",
                )
            )  # fmt: skip
            continue
        document, found = redacted(document, section)
        if is_forgotten(document, forgotten):
            outcome.dropped.append(Dropped(document.id, document.source, "filtered", FORGOTTEN))
            continue
        sketch = fingerprint(document)
        extra = {"exact": sketch.exact, "group": sketch.group, "minhash": sketch.minhash}
        outcome.rows.append({**document.to_dict(), **extra, "words": count_words(document.text), "pii": found})
    return outcome


def normalised(record: Document) -> Document:
    """The document with title, text and questions in their stored form."""
    title, text = clean_title(normalise(record.title)), normalise(record.text)
    steps = (*record.steps, "normalised") if text != record.text else record.steps
    return replace(
        record, title=title, text=text, questions=clean_questions(record.questions), steps=steps,
        language=record.language or detect(text)[0],
    )  # fmt: skip


def _unwanted(document: Document, section: DataSection) -> str:
    """Why a document is not worth keeping, or nothing."""
    judgement = judge(document.text, section.min_words, section.quality, document.language)
    if judgement.keep and section.languages and document.language not in (*section.languages, UNDETERMINED):
        return "language"
    return judgement.reason


def redacted(document: Document, section: DataSection) -> tuple[Document, list[str]]:
    """The document without personal data, and the type of each piece taken out of title, text and questions."""
    names = _names(section.name_model) if section.name_model and "PERSON" in section.redact else None
    text, found = redact(document.text, section.redact, names)
    title, in_title = redact(document.title, section.redact, names)
    asked = [redact(question, section.redact, names) for question in document.questions]
    types = [finding.type for finding in (*found, *in_title, *(f for _, more in asked for f in more))]
    steps = (*document.steps, *(f"redacted:{kind}" for kind in sorted(set(types))))
    questions = clean_questions(question for question, _ in asked)
    return replace(document, text=text, title=title, questions=questions, steps=steps), types


@functools.cache
def _names(folder: str) -> NameFinder:
    from data_jobs.pii.names import load_names

    return load_names(folder)


def is_forgotten(document: Document, forgotten: Tombstones) -> bool:
    if not forgotten:
        return False
    whole_file = document.file_sha256 if document.kind == "file" and document.span[:1] == (0,) else ""
    return forgotten.covers(document.id, document.source_name, document.source) or forgotten.covers_content(
        text_sha256(document.text), whole_file
    )
