"""Which passages an answer should name, and which of their sentences it should quote.

What the search puts first among code objects it has looked at closer (``data_jobs.retrieval.ranking``), and it stays
first unless the question names another document. The others are put in the order a reader should meet them. All
evidence is general: the fused score, similarity of the best sentence, the document's name in the question.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from cluster.core.records import CODE_KINDS, Passage
from data_jobs.retrieval.names import is_named, path_words
from data_jobs.retrieval.ranking import SHORT, UNMET, asked_words, met
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.retrieval.terms import name_stems, question_terms
from data_jobs.retrieval.wording import text_stems
from data_jobs.text.sentences import unreadable
from data_jobs.text.units import CODE_BLOCK, FIELD, ROW, SENTENCE, TITLE

_ASKS_WHAT = re.compile(
    r"\W*what(?:'s|\s+is|\s+are|\s+does)\s+(?:an?\s+|the\s+)?((?:[\w.-]+\s+){0,3}?[\w.-]+)(?:\s+(?:mean|for|do))?\s*\?*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Ranked:
    """A passage (by its index in the retrieval) with its answer-level score and its sentences, best to quote first."""

    passage: int
    score: float
    sentences: tuple[ScoredSentence, ...]


@dataclass(frozen=True)
class Weights:
    """Weights of the evidence, in units of cosine, as the fused score of a passage is."""

    best: float = 0.2  # cosine of the best sentence
    name: float = 0.05  # share of the document's name that the question says
    asked_by_name: float = 0.5  # the question names the document itself
    sentence_lexical: float = 0.5
    sentence_passage: float = 0.3
    definition: float = 0.2
    pointed: float = 0.3  # the reader's probability, for the sentences that hold the span it points at


WEIGHTS = Weights()
# What a sentence is worth more in a document that the question names by its file's name or number, and what more where
# it opens that document: what "PEP 572" is about, its first sentence says.
IN_NAMED, OPENS_NAMED = 0.3, 0.1
# What a unit that is no sentence loses beside one that reads well: a row answers what its columns are asked for, code
# what it is asked how to do. A heading says what its section is about, and answers nothing.
PENALTIES = {ROW: 0.05, CODE_BLOCK: 0.3, FIELD: 0.1}
# Of a question's words so many stand in a row that answers it, or in its column names; the others may be synonyms.
ROW_COVERED = 0.5
# A row says what things are. How somebody does something, and why something is so, it says only where it has a word for
# what is done, or a column for reasons.
_ASKS_TO_DO = re.compile(
    r"\bhow\s+(?:(?:do|did|can|could|should|would|must|may)\s+(?:i|you|we|one|they)|to)\s+(.+)"
    r"|\bwie\s+(?!kann|soll|muss|darf)(\w+)\s+(?:ich|man|wir)\b",
    re.IGNORECASE | re.DOTALL,
)
_ASKS_WHY = re.compile(r"\b(?:why|warum|wieso|pourquoi)\b", re.IGNORECASE)
_REASONS = frozenset({"reason", "caus", "why", "note", "remark", "comment", "grund", "ursach"})
LEAST_BEGINNING = 4  # letters; what begins so is of one word with it: to store, storage
# What code is worth more where the question asks how to do something, and where it asks for what to type.
SHOWS_HOW, SHOWS_COMMAND = 0.35, 0.55
_ASKS_HOW = re.compile(r"\bhow\s+(?:do|does|can|could|would|should|to|is|are)\b", re.IGNORECASE)
_ASKS_COMMAND = re.compile(
    r"\b(?:commands?|install\w*|set\s*up|example|syntax|snippet|code|befehle?|installier\w*|commande|comando|instalar)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\S+")
# One question sorts its sentences several times, and the same sentences come up for many questions.
_unreadable = functools.lru_cache(maxsize=8192)(unreadable)


def ranked(retrieval: Retrieval, weights: Weights = WEIGHTS) -> list[Ranked]:
    """The passages in answer order."""
    passages = retrieval.passages
    if not passages:
        return []
    asked = {term.text.lower() for term in question_terms(retrieval.question) if term.identifier}
    wanted, joint = asked_words(retrieval.question)
    found = []
    named = False
    for index, passage in enumerate(passages):
        own = [sentence for sentence in retrieval.sentences if sentence.passage == index]
        score = passage.score
        if own:
            score += weights.best * max(sentence.dense for sentence in own)
        if is_code(passage):
            score += weights.name * _share(name_stems(passage.document), wanted)
            if len(wanted) <= SHORT:
                score -= UNMET * passage.lexical * (1 - met(wanted, joint, passage))
        if passage.document.lower() in asked or is_named(passage.document, retrieval.question):
            score += weights.asked_by_name
            named = True
        found.append(Ranked(index, score, tuple(_by_worth(own, weights))))
    if is_code(passages[0]) and not named:
        found[0] = replace(found[0], score=max(one.score for one in found))
    return sorted(found, key=lambda one: (-one.score, one.passage))


def pointed(retrieval: Retrieval, sentence: ScoredSentence) -> dict[int, float]:
    """Places of the sentence's words (from 0) that a reader points at as the answer, and how sure it is of each."""
    found: dict[int, float] = {}
    for reading in retrieval.readings:
        begin, end = reading.answer_start - sentence.start, reading.answer_end - sentence.start
        if reading.passage != sentence.passage or end <= max(0, begin) or begin >= len(sentence.text):
            continue
        for place, word in enumerate(_WORD.finditer(sentence.text)):
            if word.start() < end and begin < word.end():
                found[place] = max(found.get(place, 0.0), reading.answerable)
    return found


def is_code(passage: Passage) -> bool:
    """Whether the document is a code object, which an answer names, rather than prose, which it quotes."""
    return passage.kind in CODE_KINDS


def worth(sentence: ScoredSentence, weights: Weights = WEIGHTS) -> float:
    """How well a unit answers: similarity and shared words, less what does not read as a sentence."""
    penalty = PENALTIES[sentence.kind] if sentence.kind in PENALTIES else _unreadable(sentence.text)
    return sentence.dense + weights.sentence_lexical * sentence.lexical - penalty


def shows(question: str) -> float:
    """What code is worth more because the question asks for what code shows; 0 where it does not."""
    if _ASKS_COMMAND.search(question):
        return SHOWS_COMMAND
    return SHOWS_HOW if _ASKS_HOW.search(question) else 0.0


def of_named(question: str, passage: Passage, own: Sequence[ScoredSentence]) -> dict[int, float]:
    """By its start what each of a passage's units is worth more because the question names the document."""
    if not own or not is_named(passage.document, question):
        return {}
    opening = min((s.start for s in own if s.kind == SENTENCE), default=-1) if not passage.start else -1
    return {s.start: IN_NAMED + OPENS_NAMED * (s.start == opening) for s in own}


def only_names(question: str, documents: Sequence[str]) -> bool:
    """Whether a question says nothing but the name of one of the documents ("What is PEP 572 about?")."""
    asked = {stem for term in question_terms(question) for stem in term.stem.split()}
    return any(asked <= text_stems(path_words(d)) for d in documents if is_named(d, question))


def answers(sentence: ScoredSentence, question: str) -> bool:
    """Whether a unit may be quoted as an answer: no heading, a field of a document's header only to a question that
    says the field's name ("What is the status of ..."), a row only to one whose words stand in it and its column names:
    a row about Klaus says nothing of his favourite colour, and a price not how to install what has it."""
    if sentence.kind == ROW:
        asked = {stem for term in question_terms(question) for stem in term.stem.split()}
        said = text_stems(f"{sentence.header}\n{sentence.text}")
        if _ASKS_WHY.search(question) and _REASONS.isdisjoint(text_stems(sentence.header)):
            return False
        return len(asked & said) >= ROW_COVERED * len(asked) and _names_what_is_done(question, said)
    if sentence.kind == FIELD:
        asked = text_stems(question)
        name, _, value = sentence.text.partition(":")
        return bool(text_stems(name) & asked) and not text_stems(value) <= asked
    return sentence.kind != TITLE


def _names_what_is_done(question: str, said: set[str]) -> bool:
    """Whether a row with these stems has a word for what the question asks how to do, if it asks that."""
    asked = _ASKS_TO_DO.search(question)
    done = question_terms(asked[1] or asked[2])[:1] if asked else []
    wanted = [stem.rstrip("e") for term in done for stem in term.stem.split()]
    return all(
        any(stem == own.rstrip("e") or (len(stem) >= LEAST_BEGINNING and own.startswith(stem)) for own in said)
        for stem in wanted
    )


def defines(question: str, sentence: str) -> bool:
    """Whether the question asks what something is and the sentence begins by saying so ("A span is ...")."""
    asked = _ASKS_WHAT.match(question)
    if not asked:
        return False
    thing = re.escape(asked.group(1).strip().lower())
    return bool(
        re.match(rf"\W*(?:an?\s|the\s)?\W*{thing}(?:e?s)?\W*\s(?:is|are|means|refers|represents?)\b", sentence.lower())
    )


def _by_worth(sentences: Sequence[ScoredSentence], weights: Weights) -> list[ScoredSentence]:
    return sorted(sentences, key=lambda sentence: (-worth(sentence, weights), sentence.start))


def _share(names: set[str], wanted: Set[str]) -> float:
    """Share of a name's words that the question says; words joined in a name count when the question says both."""
    if not names:
        return 0.0
    hits = sum(name in wanted or _is_joined(name, wanted) for name in names)
    return hits / len(names)


def _is_joined(name: str, wanted: Set[str]) -> bool:
    return any(len(word) >= 3 and name.startswith(word) and name[len(word) :] in wanted for word in wanted)
