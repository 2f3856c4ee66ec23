"""Misspelt words of a question, corrected to words of the corpus.

Only a word that neither the corpus nor its stems know is looked at; names of code, numbers and names in capitals are
left as typed. Candidates are found by counting letters: one edit changes a word's letter counts by at most two, so one
comparison of small integers over the whole vocabulary leaves a handful, of which the Damerau-Levenshtein distance
(Damerau 1964, with transpositions of neighbours) decides. Among equally near ones the word wins that keeps company
with the question's other words, then the more frequent. A rare word that is spelt right looks like a misspelt one; what
tells them apart is company again: a word of another subject has none here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data_jobs.retrieval.analysis import STOPWORDS, expand, fold, is_identifier, stem

MIN_CHARS, MAX_CHARS = 3, 24
TWO_EDITS = 8  # letters from which a word may hold two mistakes
ALONE = 5  # letters of a word that is corrected though the question has no other word to keep company with
CLOSE_COMPANY = 2.0  # lift that a word with another letter in its place needs: most such pairs are two words
LEAST_REPLACED = 5  # letters of such a word: of four letters there is a word one letter off for almost any
MAX_LOOKED_AT = 6
_TOKEN = re.compile(r"[^\W_]+(?:[._'’]+[^\W_]+)*")
_A = ord("a")


@dataclass(frozen=True)
class Correction:
    """A question with its misspelt words replaced: ``words`` are ``(typed, meant)``."""

    question: str
    words: tuple[tuple[str, str], ...] = ()


class Speller:
    """Corrects questions to one corpus.

    Args:
        texts: the corpus.
        known: whether the corpus' index has a stem (a word with a known stem is never touched).
        company: how many times more often passages with a stem hold one of some others than all passages do (lift).
        count_tokens: word pieces of a text under the embedder's tokenizer: everyday words are one piece.
    """

    def __init__(
        self,
        texts: Iterable[str],
        known: Callable[[str], bool],
        company: Callable[[str, Sequence[str]], float],
        count_tokens: Callable[[str], int],
    ) -> None:
        self._known, self._company, self._count_tokens = known, company, count_tokens
        counted: Counter[str] = Counter()
        for text in texts:
            counted.update(_TOKEN_PLAIN.findall(text.lower()))
        for word in STOPWORDS:
            counted[word] += 1
        self._words = [w for w in counted if MIN_CHARS <= len(w) <= MAX_CHARS]
        self._counts = counted
        self._letters, self._lengths = _letter_counts(self._words)

    def corrected(self, question: str) -> Correction:
        """The question as it was meant; itself, with no words, where nothing is to be corrected."""
        tokens = list(_TOKEN.finditer(question))
        unknown = [m for m in tokens if self._unknown(m.group(), first=m is tokens[0])][: MAX_LOOKED_AT + 1]
        if not unknown or len(unknown) > MAX_LOOKED_AT:
            return Correction(question)
        others = [t for m in tokens if m not in unknown for t in expand(m.group())]
        strange = [m for m in unknown if not self._everyday(fold(m.group()))]
        found = {m.start(): best for m in strange if (best := self._best(fold(m.group()), others))}
        # A writer who misspells one word misspells others, which may be everyday words by chance ("tre").
        others += [t for word in found.values() for t in expand(word)]
        for match in unknown:
            if found and match.start() not in found and (best := self._best(fold(match.group()), others)):
                found[match.start()] = best
        function_words = sum(fold(m.group()) in STOPWORDS for m in tokens)
        if len(unknown) * 2 > len(tokens) and len(found) < len(unknown) and not function_words:
            return Correction(question)  # another language, rather than a question full of mistakes
        said, at, pairs = "", 0, []
        for match in unknown:
            if meant := found.get(match.start()):
                said += question[at : match.start()] + meant
                at = match.end()
                pairs.append((match.group(), meant))
        return Correction(said + question[at:], tuple(pairs))

    def _unknown(self, token: str, first: bool) -> bool:
        word = fold(token)
        if not (MIN_CHARS <= len(word) <= MAX_CHARS and word.isascii() and word.isalpha()):
            return False
        if is_identifier(token) or (any(c.isupper() for c in token) and not (first and token.istitle())):
            return False
        return word not in STOPWORDS and word not in self._counts and not any(self._known(t) for t in expand(token))

    def _everyday(self, word: str) -> bool:
        """Whether the embedder's vocabulary, made from a large corpus, has the word whole."""
        return self._count_tokens(word) == 1 or self._count_tokens(stem(word)) == 1

    def _best(self, word: str, others: Sequence[str]) -> str:
        """The nearest word of the corpus; empty where none is near enough."""
        most = 2 if len(word) >= TWO_EDITS else 1
        near = np.flatnonzero(np.abs(self._lengths - len(word)) <= most)
        far = np.abs(self._letters[near] - _letter_counts([word])[0]).sum(axis=1)
        found = []
        for place in near[far <= 2 * most].tolist():
            other = self._words[place]
            if other[0] != word[0] and other[:2] != word[1::-1]:
                continue  # the first letter is the one that is seldom mistyped
            distance = edits(word, other, most)
            if distance > most:
                continue
            company = self._company(stem(other), others) if others and other not in STOPWORDS else 0.0
            if self._is_meant(word, other, company, bool(others)):
                found.append((distance, -company, -self._counts[other], other))
        return min(found)[3] if found else ""

    def _is_meant(self, word: str, other: str, company: float, accompanied: bool) -> bool:
        """Whether the evidence is enough that a word of the corpus was meant."""
        replaced = len(word) == len(other) and sorted(word) != sorted(other)
        if other in STOPWORDS:
            return not replaced
        if not accompanied:
            return len(word) >= (TWO_EDITS if replaced else ALONE) and self._known(stem(other))
        return company >= CLOSE_COMPANY and len(word) >= LEAST_REPLACED if replaced else company > 0


_TOKEN_PLAIN = re.compile(r"(?<![\w.])[a-z]+(?![\w.]\w)")


def _letter_counts(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """How often each of a to z stands in each word, int8 [words, 26], and the words' lengths, int16 [words]."""
    count = len(words)
    table = np.zeros((count, 26), dtype=np.int8)
    lengths = np.array([len(word) for word in words], dtype=np.int16)
    if count:
        letters = np.frombuffer("".join(words).encode("ascii"), dtype=np.uint8).astype(np.int64) - _A
        rows = np.repeat(np.arange(count), lengths)
        flat = np.bincount(rows * 26 + letters, minlength=count * 26)
        table = flat.reshape(count, 26).astype(np.int8)
    return table, lengths


def edits(one: str, other: str, most: int) -> int:
    """Damerau-Levenshtein distance (optimal string alignment) of two words; ``most + 1`` where it is larger."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)
