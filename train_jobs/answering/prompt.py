"""The prompt of a model of our own: special tokens, how question and evidence are laid out, how its words are read.

A model trained for minutes cannot spell, but it can point. It reads the question and a table of the best candidate
sentences with their evidence as tokens, and writes which of them answer::

    <|bos|><|question|>how do I copy a folder<|passage|> ... <|s1|><|e4|><|p8|><|passage|>
    <|s0|><|e9|><|p11|><|first|><|c7|><|answer|>     ->     <|s0|><|eos|>    or, to abstain,    <|none|><|eos|>

``<|sN|>`` names a sentence, ``<|eN|>`` is how well it matches the question, ``<|pN|>`` how well its passage does;
``<|first|>`` marks the sentence that opens its document (``<|passage|>`` any other), and ``<|cN|>`` is how likely the
passages answer at all. The best sentence comes last and every entry has four tokens, so each piece of evidence always
stands at the same distance from the answer: that is what lets a small model learn to read it within a hundred steps.
The words of the sentences stand before the table only where the context has room for them (see ``MIN_WORDS``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from train_jobs.answering.abstention import support
from train_jobs.answering.citations import quotation
from train_jobs.answering.select import answers, is_code, ranked, worth
from train_jobs.answering.special_tokens import (
    ANSWER,
    BOS,
    EOS,
    EVIDENCE,
    FIRST,
    MATCH,
    NONE,
    PAD,
    PASSAGE,
    QUESTION,
    SENTENCES,
    SUPPORT,
)

MAX_SENTENCES = 8
MAX_POINTS = 3
QUESTION_WORDS = 30
# Words shown of a sentence, by the room. A model with a short context is small and has little training: it learns
# to read the table from 200,000 tokens, evidence between words not from 400,000; so below MIN_WORDS it sees no words.
MIN_WORDS, MAX_WORDS, TOKENS_PER_WORD = 12, 40, 50
# Where the lowest bin ends and the highest begins; between them the bins are equally wide.
EVIDENCE_RANGE, MATCH_RANGE = (0.2, 1.4), (0.3, 1.7)
SUPPORT_RANGE = (-4.0, 6.0)  # of the log odds: most of what differs lies close to 1
# In units of a passage's score: what opening its document adds to a sentence of a code object (it says what that is
# for), and what evidence adds. A question in other words than the text matches no sentence well: then the passage
# decides, and a sentence decides by itself only from STRONG on.
SUMMARY, WEAK_WEIGHT, STRONG_WEIGHT, STRONG = 0.3, 0.1, 2.0, 0.8

_POINT = re.compile(r"<\|s(\d+)\|>")


@dataclass(frozen=True)
class Prompt:
    """A prompt's text, and the sentences it numbers (``<|s3|>`` is ``sentences[3]``).

    ``evidence`` is what the prompt says of each beside its words: bins of its own match and of its passage's, and
    whether it opens its document; ``words``: how many words of each are shown.
    """

    text: str
    sentences: tuple[ScoredSentence, ...]
    evidence: tuple[tuple[int, int, bool], ...] = ()
    words: int = 0


@dataclass(frozen=True)
class Candidate:
    """A sentence that may answer: its evidence, its passage's, and whether it opens its document."""

    sentence: ScoredSentence
    evidence: float
    match: float
    first: bool


def candidates(retrieval: Retrieval) -> list[Candidate]:
    """All units of the passages that may answer, the likeliest first."""
    found = []
    for one in ranked(retrieval):
        passage = retrieval.passages[one.passage]
        quotable = [sentence for sentence in one.sentences if answers(sentence, retrieval.question)]
        opening = min((s.start for s in quotable), default=-1) if passage.start == 0 else -1
        for sentence in quotable:
            first = sentence.start == opening
            found.append(Candidate(sentence, worth(sentence), one.score, first))
    codes = [is_code(passage) for passage in retrieval.passages]

    def value(one: Candidate) -> float:
        summary = SUMMARY * (one.first and codes[one.sentence.passage])
        strong = STRONG_WEIGHT * max(0.0, one.evidence - STRONG)
        return one.match + summary + WEAK_WEIGHT * one.evidence + strong

    return sorted(found, key=lambda one: (-value(one), one.sentence.passage, one.sentence.start))


def lay_out(
    question: str,
    retrieval: Retrieval,
    section: AnswerSection,
    count_tokens: Callable[[str], int],
    budget_tokens: int,
) -> Prompt:
    """The prompt for a question and what was retrieved for it.

    Args:
        question: the question as searched.
        section: limits of answering (``min_confidence`` does not decide here: the model does).
        count_tokens: tokens of a text under the model's tokenizer, special tokens one each.
        budget_tokens: most tokens of the prompt; the least likely sentences are left out.
    """
    retrieval = retrieval.unread()  # as in the examples that taught it: evidence in other units would mislead it
    asked = _plain(question, QUESTION_WORDS)
    while count_tokens(asked) > budget_tokens // 3:
        asked = asked[: len(asked) // 2]
    head = f"{BOS}{QUESTION}{asked}"
    odds = _log_odds(support(question, retrieval, section.min_confidence).probability)
    tail = f"{SUPPORT[_bin(odds, *SUPPORT_RANGE, SUPPORT)]}{ANSWER}"
    words = min(budget_tokens // TOKENS_PER_WORD, MAX_WORDS)
    words = words if words >= MIN_WORDS else 0
    left = budget_tokens - count_tokens(head + PASSAGE) - count_tokens(tail)
    shown: list[Candidate] = []
    evidence: list[tuple[int, int, bool]] = []
    texts: list[str] = []
    table: list[str] = []
    for one in candidates(retrieval)[:MAX_SENTENCES]:
        name = SENTENCES[len(shown)]
        said = (_bin(one.evidence, *EVIDENCE_RANGE, EVIDENCE), _bin(one.match, *MATCH_RANGE, MATCH), one.first)
        entry = f"{name}{EVIDENCE[said[0]]}{MATCH[said[1]]}{FIRST if said[2] else PASSAGE}"
        text = name + _plain(_shown(retrieval, one.sentence), words) if words else ""
        left -= count_tokens(entry) + count_tokens(text)
        if left < 0:
            break
        shown.append(one)
        evidence.append(said)
        texts.append(text)
        table.append(entry)
    text = "".join((head, *texts, PASSAGE, *reversed(table), tail))
    return Prompt(text, tuple(one.sentence for one in shown), tuple(evidence), words)


def read_points(text: str, prompt: Prompt | int) -> list[int] | None:
    """Which sentences a completion points at, in its order: empty where the model abstains, None where it wrote nothing
    that this prompt allows (a model gone wrong; the caller abstains too and says so).

    Args:
        text: the completion with special tokens, from right after ``<|answer|>``.
        prompt: the prompt, or just the number of its sentences.
    """
    shown = prompt if isinstance(prompt, int) else len(prompt.sentences)
    said = text.partition(EOS)[0].replace(PAD, "").strip()
    if said == NONE:
        return []
    points = [int(number) for number in _POINT.findall(said)]
    if not points or _POINT.sub("", said).strip() or max(points) >= shown:
        return None
    return list(dict.fromkeys(points))[:MAX_POINTS]


def completion(points: Sequence[int]) -> str:
    """What the model should write for these sentences; for none, that it abstains."""
    return ("".join(SENTENCES[point] for point in points[:MAX_POINTS]) or NONE) + EOS


def _shown(retrieval: Retrieval, sentence: ScoredSentence) -> str:
    """A sentence as an answer would quote it: white space joined, markup at its start left out."""
    quote = quotation(retrieval.passages, sentence.passage, sentence.start, sentence.end, 10_000)
    return quote.shown(retrieval.passages) if quote else sentence.text


def _plain(text: str, words: int) -> str:
    """A text in one line that cannot be taken for special tokens."""
    return " ".join(text.replace("<|", "< |").split()[:words])


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def _bin(value: float, low: float, high: float, bins: Sequence[str]) -> int:
    return min(len(bins) - 1, max(0, math.floor((value - low) / (high - low) * len(bins))))
