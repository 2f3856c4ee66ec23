"""The quote tier: answers in the documents' own words, with numbered citations, or says that it does not know.

Nothing is written here but names of documents, quotation marks, markers and a few fixed words; everything inside
quotation marks stands verbatim in a passage (white space joined, ends trimmed with an ellipsis).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cluster.core.records import Answer, Citation, Passage
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.retrieval.wording import text_stems
from data_jobs.text.sentences import unreadable
from train_jobs.answering.abstention import support
from train_jobs.answering.budget import estimated_tokens, fit
from train_jobs.answering.citations import Quotation, cite, quotation
from train_jobs.answering.select import WEIGHTS, Ranked, defines, is_code, ranked, worth
from train_jobs.answering.terms import question_terms

UNKNOWN = "I do not know: the documents do not cover this."
LEAD_WORDS = 26  # of the 60: leaves room for two alternatives with a few words each
ALTERNATIVE_WORDS = 9
PROSE_WORDS = 40
MIN_QUOTED = 4
SECOND_SENTENCE = 0.85  # a further sentence is quoted when it is worth this share of the best
UNREADABLE = 0.2  # a sentence with at least this penalty is no summary
WHOLE = 0.6  # a further sentence is quoted only if at least this share of it fits
CLOSE = 0.4  # a passage is named beside the first when its score is at most this much lower
_NAME_IN_TEXT = re.compile(r"[A-Za-z_]\w+(?:\.[A-Za-z_]\w+)+|\b[A-Za-z_]\w*(?=\(\))")
LEANING = re.compile(r"\W*(?:it|its|they|their|these|this|those|he|his|she|her|such|there)\b", re.IGNORECASE)


def answer(
    question: str,
    retrieval: Retrieval,
    section: AnswerSection,
    count_tokens: Callable[[str], int] = estimated_tokens,
) -> Answer:
    """Answer from the retrieved passages, or abstain.

    Args:
        question: the question as asked (the search question of a conversation).
        retrieval: what was found for it, best first.
        section: limits: citations, words, names, prompt tokens, least support.
        count_tokens: tokens of a text; an estimate unless a tier brings its tokenizer.
    """
    kept = fit(question, retrieval.passages, section.prompt_tokens, count_tokens)
    dropped = len(retrieval.passages) - kept
    found = _first(retrieval, kept)
    verdict = support(question, found, section.min_confidence)
    if not verdict.grounded:
        return Answer(
            text=_with_note(UNKNOWN, dropped, section.max_words),
            grounded=False,
            reason=verdict.reason,
            confidence=verdict.probability,
            dropped_passages=dropped,
        )
    room = section.max_words - len(_note(dropped).split())
    draft = Draft(found, room, section.max_names, section.max_citations)
    order = ranked(found)
    if is_code(found.passages[order[0].passage]):
        name_functions(draft, order)
    else:
        _quote_prose(draft, order, question)
    if not draft.pieces:
        return Answer(
            text=_with_note(UNKNOWN, dropped, section.max_words),
            grounded=False,
            reason="nothing_quotable",
            confidence=verdict.probability,
            dropped_passages=dropped,
        )
    return Answer(
        text=_with_note(draft.text(), dropped, section.max_words),
        citations=draft.citations(),
        grounded=True,
        reason="supported",
        confidence=verdict.probability,
        dropped_passages=dropped,
    )


def _first(retrieval: Retrieval, kept: int) -> Retrieval:
    if kept == len(retrieval.passages):
        return retrieval
    sentences = tuple(sentence for sentence in retrieval.sentences if sentence.passage < kept)
    return replace(retrieval, passages=retrieval.passages[:kept], sentences=sentences)


def _note(dropped: int) -> str:
    if not dropped:
        return ""
    return f"({dropped} lower-ranked passage{'s' if dropped > 1 else ''} left out: prompt too long.)"


def _with_note(text: str, dropped: int, max_words: int) -> str:
    note = _note(dropped)
    fits = note and len(text.split()) + len(note.split()) <= max_words
    return f"{text} {note}" if fits else text


@dataclass
class Draft:
    """An answer being written: pieces of text, what each cites, and the words, names and citations still to spend."""

    found: Retrieval
    words_left: int
    names_left: int
    max_citations: int
    pieces: list[str] = field(default_factory=list)
    used: list[int] = field(default_factory=list)  # passages, in the order of their markers
    named: set[str] = field(default_factory=set)

    def marker(self, passage: int) -> int:
        """The number, from 1, that cites a passage: its own where it is cited already, else the next free one."""
        return (self.used.index(passage) if passage in self.used else len(self.used)) + 1

    def add(self, piece: str, passage: int, names: set[str]) -> bool:
        """Append a piece if its words and names can be afforded."""
        fresh = names - self.named
        if len(piece.split()) > self.words_left or len(fresh) > self.names_left:
            return False
        if passage not in self.used and len(self.used) == self.max_citations:
            return False
        self.pieces.append(piece)
        self.words_left -= len(piece.split())
        self.names_left -= len(fresh)
        self.named |= fresh
        if passage not in self.used:
            self.used.append(passage)
        return True

    def text(self) -> str:
        """The answer so far: the pieces one after the other, with a space between them."""
        return " ".join(self.pieces)

    def citations(self) -> tuple[Citation, ...]:
        """What was used, in marker order, then the passages a reader may want next, as the search ranked them."""
        rest = [index for index in range(len(self.found.passages)) if index not in self.used]
        return tuple(cite(self.found.passages[index]) for index in (self.used + rest)[: self.max_citations])


def name_functions(draft: Draft, order: list[Ranked]) -> None:
    """``name — "summary" [1] See also name — "summary" [2], name [3].``"""
    passages = draft.found.passages
    close = [one for one in order if one.score >= order[0].score - CLOSE]
    for one in close:
        if not is_code(passages[one.passage]):
            continue
        lead = not draft.pieces
        name = passages[one.passage].document
        tries: list[Quotation | None] = [
            _summary(draft, one, LEAD_WORDS if lead else ALTERNATIVE_WORDS),
            None,
        ]
        for quote in tries:
            if add_function(draft, one.passage, name, quote, lead):
                break
        if draft.names_left <= 0:
            break


def add_function(draft: Draft, passage: int, name: str, quote: Quotation | None, lead: bool) -> bool:
    """Append ``name — "summary" [n]``, or ``name [n]`` without a quotation; whether the draft can afford it.

    Args:
        passage: place in the draft's passages.
        quote: the summary; names of code in it are spent like the function's own.
        lead: whether it opens the answer; the first function after that follows "See also".
    """
    names = {name}
    says = ""
    if quote is not None:
        shown = quote.shown(draft.found.passages)
        says = f' — "{shown}"'
        names |= _other_names(shown, name)
    elif lead:
        return draft.add(f"{name} [{draft.marker(passage)}]", passage, names)
    opening = "" if lead or len(draft.used) > 1 else "See also "
    return draft.add(f"{opening}{name}{says} [{draft.marker(passage)}]", passage, names)


def _other_names(text: str, own: str) -> set[str]:
    """Names of code that a quotation brings in beside the document's own (whole, or its last part)."""
    found = {name for name in _NAME_IN_TEXT.findall(text)}
    return {name for name in found if name != own and not own.endswith("." + name)}


def _summary(draft: Draft, one: Ranked, max_words: int) -> Quotation | None:
    """A code object's summary: its first sentence that reads as one, else its best."""
    if not one.sentences:
        return None
    in_order = sorted(one.sentences, key=lambda sentence: sentence.start)
    chosen = next((s for s in in_order if unreadable(s.text) < UNREADABLE), one.sentences[0])
    return quotation(draft.found.passages, chosen.passage, chosen.start, chosen.end, max_words)


def word_places(sentence: ScoredSentence, question: str) -> set[int]:
    """Places of the sentence's words that the question says."""
    wanted = {term.stem for term in question_terms(question)}
    return {place for place, word in enumerate(sentence.text.split()) if text_stems(word) & wanted}


def _quote_prose(draft: Draft, order: list[Ranked], question: str) -> None:
    """One to three of the best sentences with markers; a title where a sentence leans on what went before it."""
    pool = [
        (
            worth(s) + WEIGHTS.sentence_passage * one.score + WEIGHTS.definition * defines(question, s.text),
            s,
        )
        for one in order
        for s in one.sentences
    ]
    pool.sort(key=lambda pair: (-pair[0], pair[1].passage, pair[1].start))
    said: list[set[str]] = []
    for value, sentence in pool[:12]:
        if len(said) == 3 or (said and value < SECOND_SENTENCE * pool[0][0]):
            break
        stems = text_stems(sentence.text)
        if any(len(stems & other) > 0.6 * min(len(stems), len(other)) for other in said if stems):
            continue
        room = min(draft.words_left - 6, PROSE_WORDS)
        if room < MIN_QUOTED or (said and room < WHOLE * len(sentence.text.split())):
            continue
        if add_quotation(draft, sentence, question, room):
            said.append(stems)


def add_quotation(draft: Draft, sentence: ScoredSentence, question: str, room: int) -> bool:
    """``Title: "sentence" [n]``; the title only where the sentence leans on what went before it."""
    passages = draft.found.passages
    quote = quotation(passages, sentence.passage, sentence.start, sentence.end, room, word_places(sentence, question))
    if quote is None:
        return False
    passage: Passage = passages[sentence.passage]
    lead = f"{passage.title}: " if LEANING.match(sentence.text) and is_title(passage.title) else ""
    piece = f'{lead}"{quote.shown(passages)}" [{draft.marker(sentence.passage)}]'
    return draft.add(piece, sentence.passage, {passage.document})


def is_title(title: str) -> bool:
    """A short title in words, not a file name."""
    return 0 < len(title.split()) <= 6 and not re.search(r"\w[-_/.]\w", title)
