"""Other words for a question's words: reference documentation says ``iterable`` where people say ``list``.

A thesaurus is a text file: one group of words or phrases per line, separated by commas; ``#`` starts a comment. It
serves the lexical index only: the embedding model knows most of this, BM25 none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path

from cluster.core.errors import UsageError
from cluster.core.records import CODE_KINDS, Chunk
from data_jobs.retrieval.analysis import terms

SHIPPED = {"software": Path(__file__).with_name("synonyms_software.txt")}
AUTO = "auto"
# A corpus is about software if so many of its texts show code. In corpora of prose the words of the thesaurus mean
# other things ("table", "key", "tree"), and searching got worse by it.
SOFTWARE_SHARE = 0.15
LOOKED_AT = 2000
_CODE = re.compile(
    r"```|\b[a-z]\w*\(\)|\b[a-z]+[a-z0-9]*_[a-z]\w*|\b[a-z]\w+(?:\.|::)[a-z]\w+\(|^[ \t]{0,8}[$>]{1,3} \w", re.M
)
WEIGHT = 0.7  # A synonym counts so much where the word itself counts 1.

Phrase = tuple[str, ...]


class Thesaurus:
    """Groups of phrases that mean the same, as index terms."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._groups: list[list[Phrase]] = []
        self._containing: dict[Phrase, list[int]] = {}
        for line in lines:
            phrases = [p for p in (tuple(terms(part)) for part in line.partition("#")[0].split(",")) if p]
            for phrase in dict.fromkeys(phrases):
                self._containing.setdefault(phrase, []).append(len(self._groups))
            self._groups.append(list(dict.fromkeys(phrases)))
        self._longest = max(map(len, self._containing), default=0)

    def related(self, question: list[str]) -> dict[str, float]:
        """Weighted terms that stand for what the question's terms (in order) say, themselves left out.

        A phrase shares its weight among its words, so that a long one does not outweigh what was asked.
        """
        said = set(question)
        found: dict[str, float] = {}
        for size in range(1, self._longest + 1):
            for at in range(len(question) - size + 1):
                phrase = tuple(question[at : at + size])
                for group in self._containing.get(phrase, ()):
                    for other in self._groups[group]:
                        for term in () if other == phrase else other:
                            if term not in said:
                                found[term] = max(found.get(term, 0.0), WEIGHT / sqrt(len(other)))
        return found


def thesaurus_for(name: str, chunks: Sequence[Chunk]) -> str:
    """The thesaurus that ``name`` stands for in a corpus: for ``auto`` the shipped one where the corpus is about
    software, else none."""
    if name != AUTO:
        return name
    sample = chunks[:: max(1, len(chunks) // LOOKED_AT)]
    software = sum(chunk.kind in CODE_KINDS or _CODE.search(chunk.text) is not None for chunk in sample)
    return "software" if software > SOFTWARE_SHARE * len(sample) else ""


def load_thesaurus(name: str) -> Thesaurus:
    """A shipped thesaurus by name, a file by path, or an empty one for an empty name.

    Raises:
        UsageError: there is no such file.
    """
    return Thesaurus(thesaurus_lines(name))


def thesaurus_lines(name: str) -> list[str]:
    """The lines of a thesaurus; see ``load_thesaurus``."""
    if not name:
        return []
    try:
        return SHIPPED.get(name, Path(name)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"retrieval.synonyms: cannot read {name}: {error}; there are {', '.join(SHIPPED)}, or give a file"
        ) from error
