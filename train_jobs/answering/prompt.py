"""The prompt of a model of our own: special tokens, how question and evidence are laid out, how its words are read
back.

A model trained for minutes cannot spell, but it can point. It reads the question and the best candidate sentences, each
with its evidence as tokens (a small model learns those within minutes; larger ones have the words too), and
writes which of them answer::

    <|bos|><|question|>how do I copy a folder<|s0|><|e12|><|p11|><|first|> Recursively copy a directory tree ...
    <|s1|><|e9|><|p8|> ... <|c7|><|answer|>     ->     <|s0|><|eos|>      or, to abstain,      <|none|><|eos|>

``<|sN|>`` names a sentence, ``<|eN|>`` is how well it matches the question, ``<|pN|>`` how well its passage does,
``<|first|>`` marks the sentence that opens its document, and ``<|cN|>`` is how likely the passages answer at
all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.core.config import AnswerSection
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from train_jobs.answering.abstention import support
from train_jobs.answering.citations import quotation
from train_jobs.answering.select import is_code, ranked, worth

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
QUESTION, PASSAGE, ANSWER, NONE = "<|question|>", "<|passage|>", "<|answer|>", "<|none|>"
SENTENCES = tuple(f"<|s{n}|>" for n in range(16))
EVIDENCE = tuple(f"<|e{n}|>" for n in range(16))
SUPPORT = tuple(f"<|c{n}|>" for n in range(10))
MATCH = tuple(f"<|p{n}|>" for n in range(16))
FIRST = "<|first|>"

# Every tokenizer of ours has them, first and in this order, each as one id.
SPECIAL_TOKENS = (PAD, BOS, EOS, QUESTION, PASSAGE, ANSWER, NONE, *SENTENCES, *EVIDENCE, *SUPPORT, *MATCH, FIRST)

MAX_SENTENCES = 8
MAX_POINTS = 3
QUESTION_WORDS = 30
# Words of a sentence, by the room: a model with a short context is small, and learns from the evidence, not from words,
# which only cost it training time.
SENTENCE_WORDS, TOKENS_PER_WORD = (6, 40), 50
MIN_TEXT_TOKENS = 4  # a sentence of which no more than this fits is left out
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
    """A prompt's text, and the sentences it numbers (``<|s3|>`` is ``sentences[3]``)."""

    text: str
    sentences: tuple[ScoredSentence, ...]


@dataclass(frozen=True)
class Candidate:
    """A sentence that may answer: its evidence, its passage's, and whether it opens its document."""

    sentence: ScoredSentence
    evidence: float
    match: float
    first: bool


def candidates(retrieval: Retrieval) -> list[Candidate]:
    """All sentences of the passages, the likeliest to answer first."""
    found = []
    for one in ranked(retrieval):
        passage = retrieval.passages[one.passage]
        opening = min((s.start for s in one.sentences), default=-1) if passage.start == 0 else -1
        for sentence in one.sentences:
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
        budget_tokens: most tokens of the prompt. Long sentences are cut, and the least likely left out.
    """
    head = f"{BOS}{QUESTION}{_plain(question, QUESTION_WORDS)}"
    odds = _log_odds(support(question, retrieval, section.min_confidence).probability)
    tail = f"{SUPPORT[_bin(odds, *SUPPORT_RANGE, SUPPORT)]}{ANSWER}"
    left = budget_tokens - count_tokens(head) - count_tokens(tail)
    words = min(max(budget_tokens // TOKENS_PER_WORD, SENTENCE_WORDS[0]), SENTENCE_WORDS[1])
    pieces: list[str] = []
    shown: list[ScoredSentence] = []
    for one in candidates(retrieval):
        if len(shown) == MAX_SENTENCES:
            break
        marks = SENTENCES[len(shown)] + EVIDENCE[_bin(one.evidence, *EVIDENCE_RANGE, EVIDENCE)]
        marks += MATCH[_bin(one.match, *MATCH_RANGE, MATCH)] + (FIRST if one.first else "")
        text = _fitted(_plain(_shown(retrieval, one.sentence), words), left - count_tokens(marks), count_tokens)
        if text is None:
            break
        pieces.append(f"{marks}{text}")
        left -= count_tokens(pieces[-1])
        shown.append(one.sentence)
    return Prompt("".join((head, *pieces, tail)), tuple(shown))


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


def _fitted(text: str, room: int, count_tokens: Callable[[str], int]) -> str | None:
    """As many words of the text as fit, or None."""
    while count_tokens(text) > room:
        words = text.split()
        if len(words) <= 1 or room < MIN_TEXT_TOKENS:
            return None
        text = " ".join(words[: max(1, min(len(words) - 1, len(words) * room // count_tokens(text)))])
    return text


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def _bin(value: float, low: float, high: float, bins: Sequence[str]) -> int:
    return min(len(bins) - 1, max(0, math.floor((value - low) / (high - low) * len(bins))))
