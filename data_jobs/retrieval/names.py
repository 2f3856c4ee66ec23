"""Documents that a question names by their file's name or number: "PEP 572", "rfc1214", "ticket #4711", "notes.md"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePosixPath

from cluster.core.records import CODE_KINDS, Chunk
from data_jobs.retrieval.analysis import fold, stem

# A name that so many documents share ("chapter 3" of ten books, "v2") says little about which one is meant.
MAX_SHARED = 5
MAX_CHARS = 4_000
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_FILE = re.compile(r"(?<![\w.+-])\w[\w.+-]{0,100}\.[A-Za-z]\w{0,7}\b")
_BETWEEN = frozenset(("no", "nr", "number", "num", "nummer", "numero", "id"))


class DocumentNames:
    """The documents of an index by what a question may call them."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        documents: dict[str, set[str]] = {}
        for document in dict.fromkeys(chunk.document for chunk in chunks if chunk.kind not in CODE_KINDS):
            for name in document_names(document):
                documents.setdefault(name, set()).add(document)
        self._named = {name: found for name, found in documents.items() if len(found) <= MAX_SHARED}

    def documents(self, question: str) -> set[str]:
        """Ids of the documents that the question names."""
        return set().union(*(self._named.get(name, ()) for name in said_names(question)))


def is_named(document: str, question: str) -> bool:
    """Whether a question names a document."""
    return not document_names(document).isdisjoint(said_names(question))


def missing_names(question: str, documents: Sequence[str], texts: str) -> set[str]:
    """Names in the question that look like those of the documents, but name none of them and stand in no text:
    "rfc 9999" where ``rfc1214.txt`` was found."""
    known = set().union(*map(document_names, documents))
    series = {name.partition(" ")[0] for name in known if " " in name}
    asked = {name for name in said_names(question) if " " in name and name.partition(" ")[0] in series} - known
    return asked - _numbered(texts) if asked else set()


@lru_cache(maxsize=8192)
def document_names(document: str) -> frozenset[str]:
    """What a question may call a document by its id (a path): its file's name, and each word of the path together with
    the number that follows it ("pep 572" of ``peps/pep-0572.rst`` and of ``pep/0572.rst``)."""
    path, _, record = document.partition("#")
    plain = PurePosixPath(path)
    names = _numbered(f"{plain.with_suffix('')} {record if any(c.isalpha() for c in record) else ''}")
    return frozenset(names if record else names | {fold(plain.name)})


@lru_cache(maxsize=8192)
def path_words(document: str) -> str:
    """A document's id (a path) in words, searched beside its title: ``peps/pep-0572.rst`` -> ``peps pep 0572 572
    pep-0572.rst``. Numbers stand as written and without leading zeros; a row's number (``stock.csv#17``) is no name."""
    path, _, record = document.partition("#")
    plain = PurePosixPath(path)
    words = _WORDS.findall(f"{plain.with_suffix('')} {record if any(c.isalpha() for c in record) else ''}")
    words += [word.lstrip("0") for word in words if word.isdecimal() and word[0] == "0"]
    return " ".join((*words, plain.name))


@lru_cache(maxsize=1024)
def said_names(question: str) -> frozenset[str]:
    """The names in a question (in its first MAX_CHARS), as ``document_names`` spells them."""
    asked = question[:MAX_CHARS]
    return frozenset(_numbered(asked)) | {fold(found) for found in _FILE.findall(asked)}


def _numbered(text: str) -> set[str]:
    words = [fold(word) for word in _WORDS.findall(text)]
    words = [word for word in words if word not in _BETWEEN]
    return {f"{stem(a)} {int(b)}" for a, b in pairwise(words) if a.isalpha() and b.isdecimal() and len(b) < 12}
