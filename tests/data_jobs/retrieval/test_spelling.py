"""Misspelt words become words of the corpus; words it knows, names of code and other languages stay."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from data_jobs.retrieval.analysis import terms
from data_jobs.retrieval.spelling import Speller, edits

TEXTS = (
    "Recursively copy a directory tree and return the destination directory.",
    "Parse the arguments of a command line.",
    "Remove whitespace from a string.",
    "Roses are pruned in March.",
)
WHOLE = frozenset("tre cat redis flask leaderboard house".split())  # noqa: SIM905


def speller(texts: tuple[str, ...] = TEXTS) -> Speller:
    rows = [set(terms(text)) for text in texts]
    known = set().union(*rows)

    def company(term: str, others: Sequence[str]) -> float:
        own, beside = ([any(t in row for t in of) for row in rows] for of in ([term], [t for t in others if t != term]))
        both = sum(a and b for a, b in zip(own, beside, strict=True))
        return both * len(rows) / (sum(own) * sum(beside)) if both else 0.0

    return Speller(texts, known.__contains__, company, lambda word: 1 if word in WHOLE or word in known else 2)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("coppy a direcory tre", "copy a directory tree"),
        ("how do I prase a comand line?", "how do I parse a command line?"),
        ("remove whitespce from a strng", "remove whitespace from a string"),
        ("Wehn are rosess pruned?", "When are roses pruned?"),
    ],
)
def test_what_was_meant(typed: str, meant: str) -> None:
    assert speller().corrected(typed).question.lower() == meant.lower()


@pytest.mark.parametrize(
    "question",
    [
        "copy a directory tree",
        "copying directories",  # other forms of words it knows
        "What does shutil.copytre do?",  # a name of code
        "How do I use Coppy?",  # a name
        "COPPY 1234 direc7ory",
        "a leaderboard for my house",  # everyday words that nothing in the corpus resembles
        "connect to redis with flask",
        "What can I use instead of buttermilk when baking rosen?",  # of another subject, though near "roses"
        "remove a leg",  # two words of their own: "let"
        "Wie kopiere ich einen Ordner",
        "",
    ],
)
def test_what_stays_as_typed(question: str) -> None:
    made = speller().corrected(question)
    assert (made.question, made.words) == (question, ())


def test_distance_counts_a_transposition_once_and_stops_at_its_bound() -> None:
    assert edits("tree", "tree", 2) == 0
    assert edits("teh", "the", 1) == 1
    assert edits("direcory", "directory", 2) == 1
    assert edits("copy", "parse", 2) == 3


def test_a_large_vocabulary_costs_milliseconds() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = (f"{a}{b}{c}{d}ing" for a in letters for b in letters for c in letters for d in "ab")
    made = speller((*TEXTS, " ".join(words)))
    best = min(_seconds(made) for _ in range(2))
    assert best < 0.25  # 35,000 words, three of the question unknown


def _seconds(made: Speller) -> float:
    began = time.process_time()
    assert made.corrected("coppy a direcory tre").words
    return time.process_time() - began
