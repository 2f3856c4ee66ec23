"""Which unknown words of a question are names of something else, and which are just everyday words or misspelt."""

from __future__ import annotations

import time

import pytest

from data_jobs.retrieval.analysis import terms
from data_jobs.retrieval.strange import MAX_LOOKED_AT, strange_words

KNOWN = set(terms("copy a directory tree, sort a list, temporary file, automatically convert, shutil.copytree"))
EVERYDAY = {"leader", "board", "folder", "invoice", "cheap", "sub", "moon", "go", "rust"}


def pieces(text: str) -> int:
    """A tokenizer that knows a few everyday words whole and cuts everything else."""
    return 1 if text in EVERYDAY else 2


def strange(question: str) -> tuple[str, ...]:
    return strange_words(question, KNOWN, pieces)


@pytest.mark.parametrize(
    "question",
    [
        "How do I copy a directory tree?",
        "How do I sort a leaderboard?",  # a compound of everyday words
        "How do I copy subfolders cheaply?",  # compound, inflection, derivation
        "Copy a temporry file automaticaly",  # misspelt
        "Where is the moon?",  # everyday, though the corpus does not have it
        "shutil.copytree or os.no_such_name?",  # identifiers are judged elsewhere
        "Copy 3 лист files",
        "",
    ],
)
def test_not_strange(question: str) -> None:
    assert strange(question) == ()


def test_names_of_something_else_are_strange_once() -> None:
    assert strange("Copy a Kubernetes file, a kotlin list, a Kubernetes tree") == ("Kubernetes", "kotlin")


def test_a_long_question_of_gibberish_is_cut_short() -> None:
    began = time.process_time()
    found = strange(" ".join(f"qzx{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}jwv" for i in range(5000)))
    assert 0 < len(found) <= MAX_LOOKED_AT
    assert time.process_time() - began < 1
