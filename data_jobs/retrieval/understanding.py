"""From a question as typed to searches: spelling, form, language, editions. The searches are ``Searcher.find``.

A comparison is searched side by side, two questions each by itself, and a list or a summary brings the outline of the
document it is asked of. What is found goes into ``Retrieval.understood``; the passages stay those of the question.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cluster.core.records import Passage
from data_jobs.retrieval.analysis import STOPWORDS, expand, fold, is_identifier, words
from data_jobs.retrieval.asking import (
    COMPARISON,
    DEFINITION,
    LIST,
    SIGNATURE,
    SUMMARY,
    TWO,
    Form,
    form_of,
    side_question,
)
from data_jobs.retrieval.editions import Edition, asks_for, editions
from data_jobs.retrieval.outline import Outlines
from data_jobs.retrieval.results import OutlineFound, Retrieval, Understood
from data_jobs.retrieval.spelling import Speller
from data_jobs.retrieval.wording import is_stop_word
from data_jobs.text.language import UNDETERMINED, detect

if TYPE_CHECKING:
    from data_jobs.retrieval.search import Searcher

OUTDATED = 0.3  # what a superseded edition loses, in units of cosine: more than its wording can make up for
OUTLINE_PASSAGES = 5
# Of the embedders that ship, the languages they were made for; another one's are not known: nothing is said of them.
LANGUAGES = {"minilm": frozenset({"en"})}  # by the name in the embedder's identity
SURE = 0.9  # probability of a detected language
LATIN = "\u024f"  # the last letter of the Latin blocks: what is mostly beyond them is no English
LEAST_WORDS = 3
LEAST_CHARS, MAX_UNKNOWN = 3, 5  # of an unknown word that is named; of such words
FEW_FUNCTION_WORDS = 0.2  # English questions have more of them


class Understanding:
    """Reads questions for one searcher."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._editions: dict[str, Edition] = editions(searcher.snapshot.chunks)

    @cached_property
    def _outlines(self) -> Outlines:
        return Outlines(self._searcher.snapshot.chunks, self._searcher.rows_of)

    @cached_property
    def _speller(self) -> Speller:
        searcher = self._searcher
        texts = (f"{chunk.context} {chunk.text}" for chunk in searcher.snapshot.chunks)
        return Speller(texts, lambda term: term in searcher.masked.vocabulary, self._company, self._count_tokens)

    def warm(self) -> None:
        """Make what the first question would wait for."""
        _ = self._outlines, self._speller

    def search(self, question: str, k: int | None, without: Collection[str]) -> Retrieval:
        """``Searcher.find`` of the question as it was meant, with what was read out of it."""
        searcher = self._searcher
        if not question.strip() or not searcher.snapshot.chunks:
            return searcher.find(question, k, without)
        language = self._foreign(question)
        meant = question if language else self._speller.corrected(question).question
        found = searcher.find(meant, k, without)
        form = form_of(meant)
        understood = Understood(
            searched_for=meant if meant != question else "",
            unknown=() if language else self._unknown(_asked_of(form, meant)),
            language=language,
            parts=tuple(self._part(part, k, without) for part in _parts(form)),
            outline=self._outline(form, without),
            editions=self._stamps(found.passages),
        )
        return replace(found, understood=understood)

    def _part(self, question: str, k: int | None, without: Collection[str]) -> Retrieval:
        found = self._searcher.find(question, k, without)
        outline, editions = self._outline(form_of(question), without), self._stamps(found.passages)
        return replace(
            found, understood=Understood(unknown=self._unknown(question), outline=outline, editions=editions)
        )

    def _outline(self, form: Form, without: Collection[str]) -> OutlineFound | None:
        searcher = self._searcher
        if form.name in (DEFINITION, SIGNATURE) and not self._outlines.is_code(form.subject):
            return None
        if form.name not in (LIST, SUMMARY, DEFINITION, SIGNATURE) or not form.subject:
            return None
        hidden = self._hidden() | set(without)
        old = {document for document, edition in self._editions.items() if not edition.current}
        if form.wanted in ("document", "page", "file"):
            old = set()  # a folder has its old editions too
        found = self._outlines.of(form.subject, form.wanted, hidden | old) or self._outlines.of(
            form.subject, form.wanted, hidden
        )
        if found is None:
            return None
        rows = found.rows if found.kind == "folder" else (*found.rows[:1], *self._first_rows(found.parts))
        passages = tuple(searcher.passage(row) for row in rows[:OUTLINE_PASSAGES])
        return OutlineFound(found.document, found.title, found.kind, found.parts, found.headings, passages)

    def _first_rows(self, documents: Sequence[str]) -> list[int]:
        rows_of = self._searcher.rows_of
        return [rows_of[document][0] for document in documents[:OUTLINE_PASSAGES] if document in rows_of]

    def outdated(self) -> np.ndarray:
        """What each chunk loses for belonging to a superseded edition, float32 [chunks]."""
        chunks = self._searcher.snapshot.chunks
        old = {document for document, edition in self._editions.items() if not edition.current}
        return np.array([OUTDATED * (chunk.document in old) for chunk in chunks], dtype=np.float32)

    def without_asked(self, question: str, outdated: np.ndarray) -> np.ndarray:
        """``outdated``, but where the question names an edition by year or version, its siblings lose instead."""
        if not self._editions or not re.search(r"\d", question):
            return outdated
        asked = {d: edition for d, edition in self._editions.items() if asks_for(question, edition, self._names(d))}
        if not asked:
            return outdated
        kept, newest = outdated.copy(), {edition.newest for edition in asked.values()}
        for document, edition in self._editions.items():
            if edition.newest in newest:
                kept[self._searcher.rows_of[document]] = 0 if document in asked else OUTDATED
        return kept

    def _names(self, document: str) -> str:
        return f"{document} {self._searcher.snapshot.chunks[self._searcher.rows_of[document][0]].title}"

    def _unknown(self, question: str) -> tuple[str, ...]:
        """Words of the question that carry meaning and stand nowhere in the corpus, as typed, each once."""
        known = self._searcher.masked.vocabulary
        found = [
            word
            for word in dict.fromkeys(words(question))
            if len(word) >= LEAST_CHARS and not is_stop_word(word) and not any(term in known for term in expand(word))
        ]
        return tuple(found[:MAX_UNKNOWN])

    def _stamps(self, passages: Sequence[Passage]) -> dict[str, tuple[str, bool, str]]:
        known = {p.document: edition for p in passages if (edition := self._editions.get(p.document))}
        gone = self._hidden() if known else set()  # a forgotten edition is not named
        return {d: (e.stamp, e.current, e.newest) for d, e in known.items() if e.newest not in gone}

    def _hidden(self) -> set[str]:
        return {self._searcher.snapshot.chunks[row].document for row in self._searcher.hidden.tolist()}

    def _foreign(self, question: str) -> str:
        """The language of a question that the embedder was not made for; empty where it was, or none can be told."""
        made_for = LANGUAGES.get(str(self._searcher.embedder.identity.get("name")))
        plain = [word for word in words(question) if not is_identifier(word) and not word.isdecimal()]
        if made_for is None or (len(plain) < LEAST_WORDS and question.isascii()):
            return ""
        function_words = sum(fold(word) in STOPWORDS for word in plain)
        if function_words > FEW_FUNCTION_WORDS * len(plain):
            return ""
        language, probability = detect(question)
        if probability >= SURE and language not in (*made_for, UNDETERMINED):
            return language
        letters = [character for character in question if character.isalpha()]
        return UNDETERMINED if 2 * sum(c > LATIN for c in letters) > len(letters) else ""

    def _count_tokens(self, text: str) -> int:
        return self._searcher.embedder.count_tokens(text)

    def _company(self, term: str, others: Sequence[str]) -> float:
        index = self._searcher.masked
        if term not in index.vocabulary:
            return 0.0
        own = index.scores({term: 1.0}) > 0
        beside = index.scores({other: 1.0 for other in others if other != term}) > 0
        both, alone, any_other = (int(np.count_nonzero(rows)) for rows in (own & beside, own, beside))
        return both * len(own) / (alone * any_other) if both else 0.0


def _asked_of(form: Form, question: str) -> str:
    """What the documents may not know: "summarize" and "sections" only say what is wanted of it."""
    return form.subject if form.name in (LIST, SUMMARY) and form.subject else question


def _parts(form: Form) -> tuple[str, ...]:
    if form.name == TWO:
        return form.questions
    return (side_question(form.subject), side_question(form.other)) if form.name == COMPARISON else ()
