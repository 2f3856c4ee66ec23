"""The quote tier: answers in the documents' own words, with numbered citations, or says that it does not know.

Nothing is written here but names of documents, quotation marks, markers and a few fixed words; everything inside
quotation marks stands verbatim in a passage (white space joined, ends trimmed with an ellipsis). Rows of a table (below
its column names) and code blocks are quoted whole and line by line, on lines of their own (``answering.whole``).
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
from data_jobs.text.units import CODE_BLOCK, ROW, SENTENCE
from train_jobs.answering.abstention import support
from train_jobs.answering.budget import estimated_tokens, fit
from train_jobs.answering.citations import Quotation, cite, quotation
from train_jobs.answering.select import (
    WEIGHTS,
    Ranked,
    answers,
    defines,
    is_code,
    of_named,
    only_names,
    ranked,
    shows,
    worth,
)
from train_jobs.answering.terms import question_terms
from train_jobs.answering.whole import shown_code, shown_rows, words

UNKNOWN = "I do not know: the documents do not cover this."
LEAD_WORDS = 26  # of the 60: leaves room for two alternatives with a few words each
ALTERNATIVE_WORDS = 9
PROSE_WORDS = 40
MIN_QUOTED = 4
SECOND_SENTENCE = 0.85  # a further sentence is quoted when it is worth this share of the best
UNREADABLE = 0.2  # a sentence with at least this penalty is no summary
WHOLE_FACTOR = 3  # a row or code block that opens the answer may be this many times as long as other answers
MAX_ROWS = 3
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

    @property
    def whole_words(self) -> int:
        """Words that a row or code block may have where it opens the answer: cut, it would say something else."""
        return 0 if self.pieces else WHOLE_FACTOR * self.words_left

    def add_whole(self, lead: str, body: str, passage: int) -> bool:
        """Append lines that are not cut, below a lead of one line, if they can be afforded."""
        size = words(body) + len(lead.split())
        names = {self.found.passages[passage].document}
        if size > max(self.words_left, self.whole_words):
            return False
        if not self.add("", passage, names):
            return False
        self.pieces[-1] = f"{lead}\n\n{body}"
        self.words_left -= size
        return True

    def text(self) -> str:
        """The answer so far: the pieces one after the other, with a space between them, or a blank line where one of
        them is more than a line."""
        said, before = "", ""
        for piece in self.pieces:
            said += ("\n\n" if "\n" in before + piece else " ") + piece
            before = piece
        return said.lstrip()

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
    chosen = next((s for s in in_order if s.kind == SENTENCE and unreadable(s.text) < UNREADABLE), one.sentences[0])
    return quotation(draft.found.passages, chosen.passage, chosen.start, chosen.end, max_words)


def word_places(sentence: ScoredSentence, question: str) -> set[int]:
    """Places of the sentence's words that the question says."""
    wanted = {term.stem for term in question_terms(question)}
    return {place for place, word in enumerate(sentence.text.split()) if text_stems(word) & wanted}


def _quote_prose(draft: Draft, order: list[Ranked], question: str) -> None:
    """One to three of the best sentences with markers; a title where a sentence leans on what went before it."""
    how = shows(question)
    named = [of_named(question, draft.found.passages[one.passage], one.sentences) for one in order]
    if any(named) and only_names(question, [p.document for p in draft.found.passages]):
        order = [one for one, more in zip(order, named, strict=True) if more]
        named = [more for more in named if more]
    pool = [
        (
            worth(s)
            + more.get(s.start, 0.0)
            + WEIGHTS.sentence_passage * one.score
            + WEIGHTS.definition * defines(question, s.text)
            + how * (s.kind == CODE_BLOCK),
            s,
        )
        for one, more in zip(order, named, strict=True)
        for s in one.sentences
        if answers(s, question)
    ]
    pool.sort(key=lambda pair: (-pair[0], pair[1].passage, pair[1].start))
    said: list[set[str]] = []
    tables: set[tuple[int, str]] = set()
    for value, sentence in pool[:12]:
        if len(draft.pieces) == 3 or (said and value < SECOND_SENTENCE * pool[0][0]):
            break
        table = sentence.passage, sentence.header
        if sentence.kind == ROW and sentence.header and table in tables:
            continue
        stems = text_stems(sentence.text)
        if any(len(stems & other) > 0.6 * min(len(stems), len(other)) for other in said if stems):
            continue
        room = min(draft.words_left - 6, PROSE_WORDS)
        if room < MIN_QUOTED or (said and room < WHOLE * len(sentence.text.split())):
            continue
        if add_quotation(draft, sentence, question, room):
            tables.add(table)
            said += [stems, *map(text_stems, draft.pieces[-1].split("\n\n"))]


def add_quotation(draft: Draft, sentence: ScoredSentence, question: str, room: int) -> bool:
    """``Title: "sentence" [n]``; the title only where the sentence leans on what went before it. A row and a code block
    are added whole where the draft can afford them."""
    if sentence.kind == ROW and _add_rows(draft, sentence):
        return True
    if (code := _code_of(draft, sentence, question)) is not None and _add_code(draft, code):
        return True
    if sentence.kind == CODE_BLOCK:
        return False
    passages = draft.found.passages
    quote = quotation(passages, sentence.passage, sentence.start, sentence.end, room, word_places(sentence, question))
    if quote is None:
        return False
    passage: Passage = passages[sentence.passage]
    lead = f"{passage.title}: " if LEANING.match(sentence.text) and is_title(passage.title) else ""
    piece = f'{lead}"{quote.shown(passages)}" [{draft.marker(sentence.passage)}]'
    return draft.add(piece, sentence.passage, {passage.document})


def _add_rows(draft: Draft, best: ScoredSentence) -> bool:
    """The row, and with it up to two others of its table that hold as many of the question's words."""
    alike = [
        s for s in draft.found.sentences
        if s.kind == ROW and (s.passage, s.header) == (best.passage, best.header) and s.lexical >= best.lexical
        and worth(s) >= SECOND_SENTENCE * worth(best)
    ]  # fmt: skip
    alike = [best] if best not in alike else sorted(sorted(alike, key=worth)[-MAX_ROWS:], key=lambda s: s.start)
    for rows in (alike, [best]):
        if draft.add_whole(_name(draft, best.passage), shown_rows([s.text for s in rows], best.header), best.passage):
            return True
    return False


def _code_of(draft: Draft, sentence: ScoredSentence, question: str) -> ScoredSentence | None:
    """The code block that a unit is, or that it leads to: by its colon, or because the question asks how."""
    if sentence.kind == CODE_BLOCK:
        return sentence
    if not (sentence.text.endswith((":", "：")) or shows(question)):
        return None
    places = (sentence.passage, sentence.start)
    return next((s for s in draft.found.sentences if s.kind == CODE_BLOCK and (s.passage, s.lead) == places), None)


def _add_code(draft: Draft, code: ScoredSentence) -> bool:
    """A code block below the sentence that leads to it, else below its document's title."""
    passages = draft.found.passages
    passage = passages[code.passage]
    lead = _name(draft, code.passage)
    if code.lead >= 0 and (quote := quotation(passages, code.passage, code.lead, code.start, PROSE_WORDS)):
        lead = f'"{quote.shown(passages)}" [{draft.marker(code.passage)}]'
    at = code.start - passage.start
    indent = at - passage.text.rfind("\n", 0, at) - 1
    room = max(draft.words_left, draft.whole_words) - len(lead.split())
    return draft.add_whole(lead, shown_code(code.text, code.header, indent, room), code.passage)


def _name(draft: Draft, passage: int) -> str:
    body = draft.found.passages[passage]
    return f"{body.title if is_title(body.title) else body.document} [{draft.marker(passage)}]:"


def is_title(title: str) -> bool:
    """A short title in words, not a file name."""
    return 0 < len(title.split()) <= 6 and not re.search(r"\w[-_/.]\w", title)
