"""The date or version of a cited document that has several editions, said below the answer."""

from __future__ import annotations

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
