"""Which of the code objects that resemble a question comes first: the one that does what is asked.

Fusion orders thousands of chunks for recall, by what can be had of each. The few it returns can be looked at closer:
what single sentences say, and who else of their module was found. Prose keeps its fused score: its sentences are many,
and the best of many resembles any question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from cluster.core.records import CODE_KINDS, Passage
from data_jobs.retrieval.analysis import fold, joined, stem, words
from data_jobs.retrieval.fusion import known
from data_jobs.retrieval.results import ScoredSentence
from data_jobs.retrieval.terms import name_stems
from data_jobs.retrieval.wording import is_stop_word, text_stems

# What a documentation's best sentence counts beside its whole text: it says what the thing is for, the rest how to use
# it. The cosine is counted from where a sentence says nothing of a question.
SENTENCE, SENTENCE_EVEN = 0.3, 0.35
# What it is worth to be of the class or module that most of what was found belongs to: its subject is the question's.
RELATIVES = 0.1
RELATIVES_SCALE = 0.15  # of score: what is so much lower weighs a third
# What a question that a code object is known to answer counts more for the first place than for the five: chosen on
# the tuning halves (of 136 questions 103 first, 100 without; of the 263 that report 211 and 205).
ASKED = 0.3
# Of BM25, what a short question's words count less that neither name nor opening says: to copy a file is to copy files,
# not objects, and one word said often outweighs one not said.
UNMET = 0.1
SHORT = 3  # words of a question of which each counts: longer ones say more than any answer does
OPENING_CHARS = 400  # of a code object's documentation: its summary, and what it says of its arguments


def led(
    question: str, passages: Sequence[Passage], sentences: Sequence[ScoredSentence]
) -> tuple[list[Passage], list[int]]:
    """The passages, led by the one that a closer look puts first, and the place that each had before.

    The others keep their order: what else is worth naming, fusion tells better than a look for the one right answer
    (over three suites of code questions it names an accepted object among its first five for 194 of 200, the whole
    order of the closer look for 190). What leads has at least the score of what it overtook.
    """
    order = list(range(len(passages)))
    if not passages:
        return [], order
    best = int(np.argmax(corrected(question, passages, sentences)))
    order = [best, *(place for place in order if place != best)]
    first = replace(passages[best], score=max(passages[best].score, passages[0].score))
    return [first, *(passages[place] for place in order[1:])], order


def corrected(question: str, passages: Sequence[Passage], sentences: Sequence[ScoredSentence]) -> np.ndarray:
    """The passages' scores as the closer look has them, float64 [passages]; those of prose are as they were."""
    best = [SENTENCE_EVEN] * len(passages)
    for sentence in sentences:
        best[sentence.passage] = max(best[sentence.passage], sentence.dense)
    wanted, joint = asked_words(question)
    scores = np.array([passage.score for passage in passages], dtype=np.float64)
    relatives = _relatives(passages, scores)
    asked = known(np.array([passage.asked for passage in passages]))
    of_code = all(passage.kind in CODE_KINDS for passage in passages)  # beside prose it would favour code
    for i, passage in enumerate(passages):
        if passage.kind not in CODE_KINDS:
            continue
        text = passage.dense + SENTENCE * (best[i] - SENTENCE_EVEN)
        scores[i] += max(text, asked[i]) - max(passage.dense, asked[i]) + RELATIVES * relatives[i]
        scores[i] += ASKED * passage.asked * of_code
        if len(wanted) <= SHORT:
            scores[i] -= UNMET * passage.lexical * (1 - met(wanted, joint, passage))
    return scores


def asked_words(question: str) -> tuple[frozenset[str], frozenset[str]]:
    """Stems of the question's content words, and its neighbouring ones written as one, as names are (``copyfile``)."""
    content = [fold(word) for word in words(question) if not is_stop_word(word)]
    return frozenset(map(stem, content)), frozenset(joined(content))


def met(wanted: frozenset[str], joint: frozenset[str], passage: Passage) -> float:
    """Share of ``asked_words`` that a code object's name or opening says: to copy a file is to copy files, not objects.
    1 where the name says two of them as one."""
    names = _stems_of_name(passage.document)
    if not wanted or not joint.isdisjoint(names):
        return 1.0
    return len(wanted & (names | _stems_of_text(passage.text[:OPENING_CHARS]))) / len(wanted)


def _relatives(passages: Sequence[Passage], scores: np.ndarray) -> list[float]:
    """Share of all passages, weighted by score, that belong to what each belongs to, itself not counted."""
    weights = np.exp((scores - scores.max(initial=-1e9)) / RELATIVES_SCALE).tolist()
    owners = [_owner(passage) for passage in passages]
    return [
        sum(weight for j, weight in enumerate(weights) if j != i and _related(owner, owners[j])) / sum(weights)
        for i, owner in enumerate(owners)
    ]


def _owner(passage: Passage) -> str:
    if passage.kind not in CODE_KINDS:
        return ""
    return passage.document if passage.kind == "module" else passage.document.rpartition(".")[0]


def _related(one: str, other: str) -> bool:
    return bool(one and other) and (one == other or other.startswith(f"{one}.") or one.startswith(f"{other}."))


@lru_cache(maxsize=16384)
def _stems_of_name(name: str) -> frozenset[str]:
    return frozenset(name_stems(name))


@lru_cache(maxsize=16384)
def _stems_of_text(text: str) -> frozenset[str]:
    return frozenset(text_stems(text))
