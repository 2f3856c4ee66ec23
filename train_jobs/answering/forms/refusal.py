"""A refusal that helps: it names what was not found and the nearest documents, and says so where it cannot read the
question's language."""

from __future__ import annotations

from cluster.core.records import CODE_KINDS, Answer, Passage
from data_jobs.retrieval.results import Retrieval
from train_jobs.answering.citations import unmarked

UNKNOWN = "I do not know: the documents do not cover this."
CLOSEST = 3
NEAR = 0.3  # least cosine of question and passage for a document to be near at all
NEAR_LEXICAL = 0.3  # or least share of the question's words that it has
IN_COMMON = 0.5  # most confidence in an answer that only words in common led to
WORDS_IN_COMMON = 0.5  # share of such a question's words, by their weight, that the first passage must have
_LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "es": "Spanish",
    "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi",
    "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish",
    "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def refused(retrieval: Retrieval, reason: str, confidence: float, dropped: int = 0, max_words: int = 60) -> Answer:
    """The answer that is none: what is added to UNKNOWN is left out where ``max_words`` has no room for it."""
    said = UNKNOWN
    closest = nearest(retrieval)
    unknown = (retrieval.lacking,) if retrieval.lacking else retrieval.understood.unknown
    notes = []
    if retrieval.understood.language:
        reason = "unknown_language"
        name = language_name(retrieval.understood.language)
        notes.append(f"The question seems to be in {name}, which the search was not made for.")
    if unknown:
        notes.append(f"Not found: {', '.join(unknown)}.")
    if closest:
        notes.append(f"Closest: {'; '.join(map(_called, closest))}.")
    for note in notes:
        if len(said.split()) + len(note.split()) <= max_words:
            said += f" {note}"
    return Answer(
        text=said,
        grounded=False,
        reason=reason,
        confidence=confidence,
        dropped_passages=dropped,
        closest=tuple(passage.document for passage in closest),
        not_found=unknown,
    )


def nearest(retrieval: Retrieval) -> list[Passage]:
    """The first passages of documents that are near at all; what is restricted is not named to whom it does not
    answer."""
    near = [
        p for p in retrieval.passages
        if p.sensitivity != "restricted" and (p.dense >= NEAR or p.lexical >= NEAR_LEXICAL)
    ]  # fmt: skip
    return near[:CLOSEST]


def language_name(code: str) -> str:
    """The English name of a language, or its code."""
    return _LANGUAGES.get(code, "another language than English" if code == "und" else f"the language {code}")


def _called(passage: Passage) -> str:
    return passage.document if passage.kind in CODE_KINDS else unmarked(passage.title or passage.document)
