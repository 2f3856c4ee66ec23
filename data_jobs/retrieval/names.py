"""Documents that a question names by their file's name or number: "PEP 572", "rfc1214", "ticket #4711", "notes.md"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath

from cluster.core.records import CODE_KINDS, Chunk
from data_jobs.retrieval.analysis import fold, stem

# A name that so many documents share ("chapter 3" of ten books, "v2") says little about which one is meant.
MAX_SHARED = 5
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_FILE = re.compile(r"\w[\w.+-]*\.[A-Za-z]\w{0,7}\b")
_BETWEEN = frozenset(("no", "nr", "number", "num", "nummer", "numero", "id"))


class DocumentNames:
    """Which of an index's chunks belong to a document of a given name."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        documents: dict[str, set[str]] = {}
        self._rows: dict[str, list[int]] = {}
        for row, chunk in enumerate(chunks):
            if chunk.kind in CODE_KINDS:
                continue
            rows = self._rows.setdefault(chunk.document, [])
            if not rows:
                for name in document_names(chunk.document):
                    documents.setdefault(name, set()).add(chunk.document)
            rows.append(row)
        self._named = {name: found for name, found in documents.items() if len(found) <= MAX_SHARED}

    def rows(self, question: str) -> list[int]:
        """Rows of the chunks of every document that the question names, ascending."""
        named = set().union(*(self._named.get(name, ()) for name in said_names(question)))
        return sorted(row for document in named for row in self._rows[document])


def document_names(document: str) -> set[str]:
    """What a question may call a document by its id (a path): its file's name, and each word of the path together with
    the number that follows it ("pep 572" of ``peps/pep-0572.rst`` and of ``pep/0572.rst``)."""
    path, _, record = document.partition("#")
    plain = PurePosixPath(path)
    names = _numbered(f"{plain.with_suffix('')} {record if any(c.isalpha() for c in record) else ''}")
    return names if record else names | {fold(plain.name)}


def path_words(document: str) -> str:
    """A document's id (a path) in words, searched beside its title: ``peps/pep-0572.rst`` -> ``peps pep 0572 572
    pep-0572.rst``. Numbers stand as written and without leading zeros; what counts rows (``stock.csv#17``) is no name."""
    path, _, record = document.partition("#")
    plain = PurePosixPath(path)
    words = _WORDS.findall(f"{plain.with_suffix('')} {record if any(c.isalpha() for c in record) else ''}")
    words += [word.lstrip("0") for word in words if word.isdecimal() and word[0] == "0"]
    return " ".join((*words, plain.name))


def said_names(question: str) -> set[str]:
    """The names in a question, as ``document_names`` spells them."""
    return _numbered(question) | {fold(found) for found in _FILE.findall(question)}


def _numbered(text: str) -> set[str]:
    words = [fold(word) for word in _WORDS.findall(text)]
    words = [word for word in words if word not in _BETWEEN]
    return {f"{stem(a)} {int(b)}" for a, b in pairwise(words) if a.isalpha() and b.isdecimal() and len(b) < 12}
