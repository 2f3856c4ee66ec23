"""Words of a question that are strange to a corpus: names of things it does not speak of.

A question about documents uses everyday words that the documents do not ("a leaderboard", "my invoices") and misspells
others; neither says that the documents hold no answer. A word like ``kubernetes`` does. What tells them apart without
any list of names: everyday words, and compounds and derivations of them, are whole pieces of the embedder's vocabulary,
made from a large corpus of general English; misspelt words lie one edit from a term of the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

import Stemmer

from data_jobs.retrieval.analysis import STOPWORDS, expand, fold, is_identifier, stem, words

MIN_CHARS = 3
# At most so many unknown words of a question are looked at: each takes about a millisecond, and more say nothing new.
MAX_LOOKED_AT = 16
MIN_HALF = 3  # Each half of a compound word has at least so many letters.
MIN_PREFIX = 6
_SUFFIXES = ("ly", "ness", "less", "able", "ish")
_stemmer = Stemmer.Stemmer("english", 0)  # as ``analysis.stem``, without its cache: these words are never seen again
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def strange_words(question: str, known: Container[str], count_tokens: Callable[[str], int]) -> tuple[str, ...]:
    """The plain words of ``question`` (identifiers are judged elsewhere) that are strange to the corpus, as typed.

    Args:
        known: the terms of the corpus (stems, see ``analysis.terms``).
        count_tokens: number of word pieces of a text under the embedder's tokenizer.
    """
    found = []
    looked_at = 0
    for token in dict.fromkeys(words(question)):
        word = fold(token)
        if (
            len(word) < MIN_CHARS
            or word in STOPWORDS
            or is_identifier(token)
            or not (word.isascii() and word.isalpha())
        ):
            continue
        if any(term in known for term in expand(token)):
            continue
        looked_at += 1
        if looked_at > MAX_LOOKED_AT:
            break
        if not (_everyday(word, count_tokens) or _derived(word, known) or _misspelt(word, known)):
            found.append(token)
    return tuple(found)


def _everyday(word: str, count_tokens: Callable[[str], int]) -> bool:
    """One piece, an inflection or derivation of one piece, or a compound of two."""

    def whole(part: str) -> bool:
        return count_tokens(part) == 1 or count_tokens(stem(part)) == 1

    if whole(word) or any(word.endswith(suffix) and whole(word.removesuffix(suffix)) for suffix in _SUFFIXES):
        return True
    return any(count_tokens(word[:at]) == 1 and whole(word[at:]) for at in range(MIN_HALF, len(word) - MIN_HALF + 1))


def _derived(word: str, known: Container[str]) -> bool:
    """A longer form of a term of the corpus."""
    return any(word[:at] in known for at in range(MIN_PREFIX, len(word)))


def _misspelt(word: str, known: Container[str]) -> bool:
    """One edit away from a term of the corpus (short words have too many neighbours to tell)."""
    # Some 54 a letter: stemmed together, since one by one they would be most of a search.
    return len(word) >= 5 and any(near in known for near in _stemmer.stemWords(list(_edits(word))))


def _edits(word: str) -> Iterator[str]:
    """Every word one deletion, transposition, replacement or insertion away (Norvig 2007)."""
    for at in range(len(word) + 1):
        left, right = word[:at], word[at:]
        if right:
            yield left + right[1:]
        if len(right) > 1:
            yield left + right[1] + right[0] + right[2:]
        for letter in _LETTERS:
            if right:
                yield left + letter + right[1:]
            yield left + letter + right
