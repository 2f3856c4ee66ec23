"""The date or version of a cited document that has several editions, said below the answer."""

from __future__ import annotations

from data_jobs.retrieval.editions import years_in
from data_jobs.retrieval.results import Retrieval
from train_jobs.answering.draft import Draft

DATE_WORDS = 12  # kept free for what ``dated`` says


def dated(draft: Draft) -> None:
    """Append ``([1] is of 2024-05-01, the newest edition.)`` for the first cited document with several editions."""
    for place in draft.used:
        document = draft.found.passages[place].document
        if edition := draft.found.understood.editions.get(document):
            stamp, current, newest = edition
            which = "the newest edition" if current else f"not the newest edition, which is {newest}"
            draft.words_left += DATE_WORDS
            draft.add(f"([{draft.marker(place)}] is of {stamp}, {which}.)", place, {document})
            return


def of_another_year(question: str, found: Retrieval) -> bool:
    """Whether a question names a year of which there is no edition: what the report of another year says is no answer.
    A year that a passage speaks of is known."""
    asked = years_in(question)
    if not asked or not found.passages or found.passages[0].document not in found.understood.editions:
        return False
    known = "\n".join(f"{p.document.replace('_', ' ')}\n{p.title}\n{p.text}" for p in found.passages)
    return not any(year in known for year in asked)
