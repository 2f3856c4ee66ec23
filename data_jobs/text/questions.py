"""The questions that documents answer: cleaned like text, and bounded.

Document expansion (Nogueira et al. 2019, "Document Expansion by Query Prediction"): reference texts are terse and name
things in their own words; a question in a user's words, stored with the document that answers it, is found by the next
user's. They come with a source (``extract``, ``sources.pydocs``), never from the index.
"""

from __future__ import annotations

from collections.abc import Iterable

from data_jobs.text.normalise import normalise

# A document keeps at most so many questions: more would say little new and let it crowd the others out.
MAX_QUESTIONS = 32
MAX_CHARS = 300  # Nobody asks longer questions.


def clean_questions(questions: Iterable[str]) -> tuple[str, ...]:
    """Normalised one-line questions in order; empty, overlong and repeated ones (in any case) left out."""
    kept: dict[str, str] = {}
    for question in questions:
        text = " ".join(normalise(question).split()) if len(question) <= 2 * MAX_CHARS else ""
        if any(c.isalnum() for c in text) and len(text) <= MAX_CHARS:
            kept.setdefault(text.casefold(), text)
    return tuple(kept.values())[:MAX_QUESTIONS]
