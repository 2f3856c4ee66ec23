"""The answer of a model that points: the sentences it chose, rendered with names and markers as the quote tier does.

The model decides what is quoted and whether anything is; it writes none of the words, so it cannot invent any.
"""

from __future__ import annotations

from cluster.core.records import Answer
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from train_jobs.answering.abstention import support
from train_jobs.answering.citations import quotation
from train_jobs.answering.prompt import Prompt, read_points
from train_jobs.answering.quote import (
    ALTERNATIVE_WORDS,
    CLOSE,
    LEAD_WORDS,
    MIN_QUOTED,
    PROSE_WORDS,
    UNKNOWN,
    Draft,
    add_function,
    add_quotation,
    name_functions,
)
from train_jobs.answering.select import is_code, ranked


def pointed_answer(
    question: str, retrieval: Retrieval, prompt: Prompt, completion_text: str, section: AnswerSection
) -> Answer:
    """Render what a pointing model wrote, or abstain.

    Args:
        prompt: what the model read (``prompt.lay_out`` of this question and retrieval).
        completion_text: what it wrote, special tokens kept.

    The reason is ``model_abstained`` where it says that no sentence answers, ``model_unreadable`` where it wrote
    anything but ids of the prompt's sentences, ``no_passages`` where there was nothing to point at.
    """
    verdict = support(question, retrieval, section.min_confidence)
    confidence = verdict.probability
    points = read_points(completion_text, prompt)
    if not points:
        reason = "model_unreadable" if points is None else "model_abstained"
        return _refusal("no_passages" if not retrieval.passages else reason, confidence)
    if not verdict.grounded:  # the floor holds for every tier; the model may only be stricter
        return _refusal(verdict.reason, confidence)
    draft = Draft(retrieval, section.max_words, section.max_names, section.max_citations)
    for point in points:
        quote_sentence(draft, question, prompt.sentences[point])
    if not draft.pieces:
        return _refusal("nothing_quotable", confidence)
    if is_code(retrieval.passages[draft.used[0]]):
        order = ranked(retrieval)
        close = [one for one in order if one.score >= order[0].score - CLOSE and one.passage not in draft.used]
        if close:
            name_functions(draft, close, question)
    return Answer(draft.text(), draft.citations(), True, "supported", confidence)


def quote_sentence(draft: Draft, question: str, sentence: ScoredSentence) -> bool:
    """Append a sentence in the documents' own words: of a code object its name beside it. Whether the draft can afford
    it; a code object stands in it once."""
    passage = draft.found.passages[sentence.passage]
    if not is_code(passage):
        room = min(draft.words_left - 6, PROSE_WORDS)
        return room >= MIN_QUOTED and add_quotation(draft, sentence, question, room)
    if sentence.passage in draft.used:
        return False
    words = ALTERNATIVE_WORDS if draft.pieces else LEAD_WORDS
    quote = quotation(draft.found.passages, sentence.passage, sentence.start, sentence.end, words)
    return add_function(draft, sentence.passage, passage.document, quote, lead=not draft.pieces)


def _refusal(reason: str, confidence: float) -> Answer:
    return Answer(UNKNOWN, grounded=False, reason=reason, confidence=confidence)
