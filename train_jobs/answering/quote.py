"""The quote tier: answers in the documents' own words, with numbered citations, or says that it does not know.

Nothing is written here but names of documents, quotation marks, markers and a few fixed words; everything inside
quotation marks stands verbatim in a passage (white space joined, ends trimmed with an ellipsis, numbers in brackets in
full-width ones, as those that are not are markers). Rows of a table (below its column names) and code blocks are quoted
whole and line by line, on lines of their own (``answering.whole``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from cluster.core.records import Answer, Passage
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.asking import form_of
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.retrieval.support import MISSING
from data_jobs.retrieval.terms import question_terms
from data_jobs.retrieval.wording import text_stems
from data_jobs.text.sentences import unreadable
from data_jobs.text.units import CODE_BLOCK, ROW, SENTENCE
from train_jobs.answering.abstention import support
from train_jobs.answering.budget import estimated_tokens, fit
from train_jobs.answering.citations import Quotation, quotation, unmarked
from train_jobs.answering.draft import Draft
from train_jobs.answering.forms.code import example, shows_signature, signature
from train_jobs.answering.forms.dates import DATE_WORDS, dated, of_another_year
from train_jobs.answering.forms.headings import is_heading
from train_jobs.answering.forms.lists import asks_for_list, list_at, shown_list
from train_jobs.answering.forms.parts import in_parts
from train_jobs.answering.forms.polarity import said as said_plainly
from train_jobs.answering.forms.refusal import IN_COMMON, WORDS_IN_COMMON, refused
from train_jobs.answering.forms.refusal import UNKNOWN as UNKNOWN
from train_jobs.answering.forms.structure import from_structure
from train_jobs.answering.select import (
    WEIGHTS,
    Ranked,
    answers,
    defines,
    is_code,
    of_named,
    only_names,
    pointed,
    ranked,
    shows,
    worth,
)
from train_jobs.answering.whole import shown_code, shown_rows

LEAD_WORDS = 34  # of the 60: leaves room for two alternatives
ALTERNATIVE_WORDS = 14  # an alternative whose summary has no clause so short is only named
PROSE_WORDS = 40
MIN_QUOTED = 4
SECOND_SENTENCE = 0.85  # a further sentence is quoted when it is worth this share of the best
UNREADABLE = 0.2  # a sentence with at least this penalty is no summary
MAX_ROWS = 3
POINTED = 3.0  # what a word that the reader points at counts, if it is sure, where one of the question's counts 1
BESIDE = 8  # words that a title, a yes or no and the marker take beside a quotation
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
    return _answer(question, retrieval, section, count_tokens, None)


def _answer(
    question: str, retrieval: Retrieval, section: AnswerSection, count_tokens: Callable[[str], int], first: int | None
) -> Answer:
    """``answer``, or one part of it, whose markers follow the ``first`` ones."""
    question = retrieval.understood.searched_for or question
    if (
        made := in_parts(question, retrieval, section, lambda q, r, s, n: _answer(q, r, s, count_tokens, n))
    ) is not None:
        return made
    if (made := from_structure(question, retrieval, section, first)) is not None:
        return made
    kept = fit(question, retrieval.passages, section.prompt_tokens, count_tokens)
    dropped = len(retrieval.passages) - kept
    found = retrieval.only(range(kept)) if dropped else retrieval
    verdict = support(question, found, section.min_confidence)
    # Vectors say nothing of a language that they were not made for: words in common must.
    strange = bool(found.understood.language) and found.features.get("coverage_1", 0.0) < WORDS_IN_COMMON
    if strange or not verdict.grounded:
        return _refused(found, verdict.reason, verdict.probability, dropped, section.max_words)
    if of_another_year(question, found):
        return _refused(found, "unknown_terms", min(verdict.probability, MISSING), dropped, section.max_words)
    room = section.max_words - len(_note(dropped).split())
    room -= DATE_WORDS if found.understood.editions and room > 2 * DATE_WORDS else 0
    draft = Draft(found, room, section.max_names, section.max_citations, first)
    order = ranked(found)
    if is_code(found.passages[order[0].passage]):
        name_functions(draft, order, question)
    else:
        _quote_prose(draft, order, question)
    if not draft.pieces:
        return _refused(found, "nothing_quotable", verdict.probability, dropped, section.max_words)
    dated(draft)
    confidence = verdict.probability
    return Answer(
        text=_with_note(draft.text(), dropped, section.max_words),
        citations=draft.citations(),
        grounded=True,
        reason="supported",
        confidence=min(confidence, IN_COMMON) if found.understood.language else confidence,
        dropped_passages=dropped,
        form=form_of(question).name,
    )


def _refused(found: Retrieval, reason: str, confidence: float, dropped: int, max_words: int) -> Answer:
    room = max_words - len(_note(dropped).split())
    made = refused(found, reason, confidence, dropped, room)
    return replace(made, text=_with_note(made.text, dropped, max_words))


def _note(dropped: int) -> str:
    if not dropped:
        return ""
    return f"({dropped} lower-ranked passage{'s' if dropped > 1 else ''} left out: prompt too long.)"


def _with_note(text: str, dropped: int, max_words: int) -> str:
    note = _note(dropped)
    fits = note and len(text.split()) + len(note.split()) <= max_words
    return f"{text} {note}" if fits else text


def name_functions(draft: Draft, order: list[Ranked], question: str = "") -> None:
    """``name — "summary" [1] See also name — "summary" [2], name [3].``; signature and example below the first where
    the question asks for them."""
    passages = draft.found.passages
    close = [one for one in order if one.score >= order[0].score - CLOSE]
    for one in close:
        if not is_code(passages[one.passage]):
            continue
        lead = not draft.pieces
        name = passages[one.passage].document
        tries: list[Quotation | None] = [
            _summary(draft, one, LEAD_WORDS if lead else ALTERNATIVE_WORDS, whole=not lead),
            None,
        ]
        for quote in tries:
            if add_function(draft, one.passage, name, quote, lead):
                break
        if lead and draft.pieces:
            _show_code(draft, one.passage, question)
        if draft.names_left <= 0:
            break


def _show_code(draft: Draft, passage: int, question: str) -> None:
    """Signature and example of the function just named, without words of their own to spend."""
    shown = (
        [signature(draft.found.passages[passage])] if shows_signature(question, draft.found.passages[passage]) else []
    )
    if code := example(question, draft.found, passage):
        shown.append(code)
    if shown:
        draft.pieces[-1] += "\n\n" + "\n\n".join(shown)


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
        shown = quote.said(draft.found.passages)
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


def _summary(draft: Draft, one: Ranked, max_words: int, whole: bool) -> Quotation | None:
    """A code object's summary: its first sentence that reads as one, else its best. ``whole``: none at all where it
    would be cut within a clause."""
    if not one.sentences:
        return None
    in_order = sorted(one.sentences, key=lambda sentence: sentence.start)
    chosen = next((s for s in in_order if s.kind == SENTENCE and unreadable(s.text) < UNREADABLE), one.sentences[0])
    made = quotation(draft.found.passages, chosen.passage, chosen.start, chosen.end, max_words)
    return None if whole and made is not None and made.within_clause else made


def word_places(found: Retrieval, sentence: ScoredSentence, question: str) -> dict[int, float]:
    """Places of the sentence's words (from 0) that a cut should leave in, and what each of them counts: those that the
    question says, and those that a reader points at."""
    wanted = {term.stem for term in question_terms(question)}
    asked = {place: 1.0 for place, word in enumerate(sentence.text.split()) if text_stems(word) & wanted}
    for place, sure in pointed(found, sentence).items():
        asked[place] = asked.get(place, 0.0) + POINTED * sure
    return asked


def _quote_prose(draft: Draft, order: list[Ranked], question: str) -> None:
    """One to three of the best sentences with markers; a title where a sentence leans on what went before it."""
    how, passages = shows(question), draft.found.passages
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
        if answers(s, question) and not is_heading(passages[s.passage], s)
    ]
    # Held against the best of the search alone: what the reader points at goes before it, and silences nothing.
    least = SECOND_SENTENCE * max((value for value, _ in pool), default=0.0)
    pool = [(value + WEIGHTS.pointed * max(pointed(draft.found, s).values(), default=0.0), s) for value, s in pool]
    pool.sort(key=lambda pair: (-pair[0], pair[1].passage, pair[1].start))
    said: list[set[str]] = []
    tables: set[tuple[int, str]] = set()
    for value, sentence in pool[:12]:
        if len(draft.pieces) == 3 or (said and value < least):
            break
        table = sentence.passage, sentence.header
        if sentence.kind == ROW and sentence.header and table in tables:
            continue
        stems = text_stems(sentence.text)
        if any(len(stems & other) > 0.6 * min(len(stems), len(other)) for other in said if stems):
            continue
        words = len(sentence.text.split())
        room = min(draft.words_left - 6, PROSE_WORDS)
        if not said and words <= draft.words_left - BESIDE:
            room = max(room, words)  # better whole than cut with another one behind it
        if room < MIN_QUOTED or (said and room < WHOLE * words):
            continue
        if add_quotation(draft, sentence, question, room):
            tables.add(table)
            said += [stems, *map(text_stems, draft.pieces[-1].split("\n\n"))]


def add_quotation(draft: Draft, sentence: ScoredSentence, question: str, room: int) -> bool:
    """``Title: "sentence" [n]``; the title only where the sentence leans on what went before it. A row and a code block
    are added whole where the draft can afford them."""
    if sentence.kind == ROW and _add_rows(draft, sentence):
        return True
    if sentence.kind == SENTENCE and _add_list(draft, sentence, question):
        return True
    if (code := _code_of(draft, sentence, question)) is not None and _add_code(draft, code):
        return True
    if sentence.kind == CODE_BLOCK:
        return False
    passages = draft.found.passages
    places = word_places(draft.found, sentence, question)
    quote = quotation(passages, sentence.passage, sentence.start, sentence.end, room, places)
    if quote is None:
        return False
    passage: Passage = passages[sentence.passage]
    lead = f"{unmarked(passage.title)}: " if LEANING.match(sentence.text) and is_title(passage.title) else ""
    plainly = said_plainly(question, sentence.text) if not draft.pieces and not quote.cut_after else ""
    lead = f"{plainly}. {lead}" if plainly else lead
    piece = f'{lead}"{quote.said(passages)}" [{draft.marker(sentence.passage)}]'
    return draft.add(piece, sentence.passage, {passage.document})


def _add_list(draft: Draft, sentence: ScoredSentence, question: str) -> bool:
    """The whole list that the sentence leads to or stands in, where the question wants it, below what leads to it."""
    passages = draft.found.passages
    passage = passages[sentence.passage]
    at, end = sentence.start - passage.start, sentence.end - passage.start
    found = list_at(passage.text, at, end)
    leads = found is not None and found.start >= end and sentence.text.endswith((":", "："))
    if found is None or not asks_for_list(form_of(question), found, leads):
        return False
    lead = _name(draft, sentence.passage)
    span = (at, end) if found.start >= end else (found.lead_start, found.lead_end)
    begin, stop = (passage.start + place for place in span)
    if begin < stop and (quote := quotation(passages, sentence.passage, begin, stop, PROSE_WORDS)):
        lead = f'"{quote.said(passages)}" [{draft.marker(sentence.passage)}]'
    body = shown_list(passage.text, found, max(draft.words_left, draft.whole_words) - len(lead.split()))
    return bool(body) and draft.add_whole(lead, body, sentence.passage)


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
        lead = f'"{quote.said(passages)}" [{draft.marker(code.passage)}]'
    at = code.start - passage.start
    indent = at - passage.text.rfind("\n", 0, at) - 1
    room = max(draft.words_left, draft.whole_words) - len(lead.split())
    return draft.add_whole(lead, shown_code(code.text, code.header, indent, room), code.passage)


def _name(draft: Draft, passage: int) -> str:
    body = draft.found.passages[passage]
    return f"{unmarked(body.title if is_title(body.title) else body.document)} [{draft.marker(passage)}]:"


def is_title(title: str) -> bool:
    """A short title in words, not a file name."""
    return 0 < len(title.split()) <= 6 and not re.search(r"\w[-_/.]\w", title)
