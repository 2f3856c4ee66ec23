"""What an index knows of a document by structure: what lies below it, its headings, its first words.

A list ("which functions does X have") and a summary are read from here, not guessed from passages: names below a code
object, documents of a folder, headings of a file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from cluster.core.records import CODE_KINDS, Chunk
from data_jobs.retrieval.analysis import fold, stem
from data_jobs.retrieval.names import document_names, said_names
from data_jobs.text.blocks import HEADING, blocks
from data_jobs.text.units import SENTENCE, units

MAX_BELOW = 400
MAX_HEADINGS = 60
_WORD = re.compile(r"[^\W_]+")
_ARTICLE = re.compile(r"(?:the|an?)\s+")
_MARKS = re.compile(r"[`'\"]|\(\)")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:(?!---[ \t]*$).*\n)*---[ \t]*$\s*", re.MULTILINE)
_FIELD = re.compile(r"[\w *-]{2,40}:[\s*]*[\dv][\w./:-]*\W*")
# Words that say what kind of thing a subject is, not which: "the shutil module", "the leave policy document".
_KIND_WORDS = frozenset(
    """module package class function method document file page guide manual chapter folder library docs
    documentation""".split()  # noqa: SIM905
)
# What a file's headings are; "parts" and "topics" only where the subject is called a text: the parts of a flower, the
# classes of a school and the functions of a committee are no headings of the file about it.
_HEADED = frozenset(("", "section", "chapter", "heading"))
_HEADED_TEXT = frozenset(("part", "topic"))
_TEXTS = frozenset(
    """document file page guide manual handbook policy chapter docs documentation report paper article book tutorial
    specification readme""".split()  # noqa: SIM905
)
# Which kinds of documents a word for parts means.
_KINDS_OF = {
    "function": ("function", "builtin"),
    "method": ("method",),
    "class": ("class",),
    "member": ("function", "builtin", "method", "class"),
    "attribute": ("method", "class"),
    "submodule": ("module",),
    "builtin": ("builtin",),
    "document": ("file", "record"),
    "page": ("file", "record"),
    "file": ("file", "record"),
}


@dataclass(frozen=True)
class Outline:
    """A document by its structure.

    Attributes:
        document, title, kind: of the document; of a folder of files its path and kind ``folder``.
        rows: of its chunks, in text order; of a folder those of the first chunks of its files.
        parts: names of what lies below it, as the question asked for: documents, or headings of a file.
        headings: whether ``parts`` are headings.
    """

    document: str
    title: str
    kind: str
    rows: tuple[int, ...]
    parts: tuple[str, ...] = ()
    headings: bool = False


class Outlines:
    """Finds documents by what people call them, and what lies below them.

    Args:
        chunks: of the index; ``rows`` are places in it.
        rows_of: the rows of each document, in text order.
    """

    def __init__(self, chunks: Sequence[Chunk], rows_of: dict[str, list[int]]) -> None:
        self._chunks, self._rows_of = chunks, rows_of
        self._called: dict[str, set[str]] = {}
        for document, rows in rows_of.items():
            for name in _called(chunks[rows[0]]):
                self._called.setdefault(name, set()).add(document)

    def find(self, subject: str, hidden: Collection[str] = ()) -> str:
        """The one document that a subject names; empty where none does, or several do. Of code that which is called
        just so ("the collections module", "str"), before others whose last name it is; code has no stems:
        ``gc.collect`` is not "collections"."""
        written = _ARTICLE.sub("", _MARKS.sub("", subject).strip().lower())
        plain = " ".join(word for word in written.split() if word not in _KIND_WORDS)
        for name in dict.fromkeys((written, plain, _words(subject), _words(subject, _KIND_WORDS))):
            found = {document for document in self._called.get(name, ()) if document not in hidden} if name else set()
            if name not in (written, plain):
                found = {document for document in found if self._chunk(document).kind not in CODE_KINDS}
            elif name in found and self._chunk(name).kind in CODE_KINDS:
                return name
            if len(found) == 1:
                return found.pop()
        named = [d for d in (self._named(subject) or self._titled(subject)) if d not in hidden]
        return named[0] if len(named) == 1 else ""

    def _chunk(self, document: str) -> Chunk:
        return self._chunks[self._rows_of[document][0]]

    def _titled(self, subject: str) -> list[str]:
        """Files whose title, or whose name, the subject says beside words of their folders: "the travel policy" is
        ``policies/travel.md``."""
        asked = set(_words(subject, _KIND_WORDS).split())
        found = []
        for document, names, folders in self._file_names if asked else ():
            if any(name and name <= asked <= name | folders for name in names):
                found.append(document)
        return found

    @cached_property
    def _file_names(self) -> list[tuple[str, list[set[str]], set[str]]]:
        """Of each file the words of its title and of its name, and those of its folders: stemmed once, not again for
        every question."""
        made = []
        for document, rows in self._rows_of.items():
            chunk = self._chunks[rows[0]]
            if chunk.kind == "file":
                path = PurePosixPath(document.partition("#")[0])
                names = [set(_words(name).split()) for name in (chunk.title, path.stem)]
                made.append((document, names, set(_words(" ".join(path.parts[:-1])).split())))
        return made

    def is_code(self, subject: str) -> bool:
        """Whether a subject is the whole name of a code object."""
        rows = self._rows_of.get(subject)
        return rows is not None and self._chunks[rows[0]].kind in CODE_KINDS

    def _named(self, subject: str) -> list[str]:
        said = said_names(subject)
        if not said:
            return []
        return [
            document
            for document, rows in self._rows_of.items()
            if self._chunks[rows[0]].kind not in CODE_KINDS and not document_names(document).isdisjoint(said)
        ]

    def of(self, subject: str, wanted: str, hidden: Collection[str] = ()) -> Outline | None:
        """The outline of what a subject names, with the parts asked for (``Form.wanted``; empty for a summary: what
        lies directly below); None where nothing has that name, or has no such parts."""
        document = self.find(subject, hidden)
        if not document:
            return self._folder(subject, wanted, hidden)
        rows = self._rows_of[document]
        first = self._chunks[rows[0]]
        if first.kind not in CODE_KINDS and not _is_headed(subject, wanted, document):
            return self._folder(subject, wanted, hidden)
        if first.kind in CODE_KINDS:
            parts, headings = self._below(document, _KINDS_OF.get(wanted, ()), hidden), False
        else:
            parts, headings = self.titles(rows), True
        if wanted and not parts:
            return None
        return Outline(document, first.title, first.kind, tuple(rows), tuple(parts[:MAX_BELOW]), headings)

    def _below(self, owner: str, kinds: Collection[str], hidden: Collection[str]) -> list[str]:
        """Qualified names one level below a code object (those of its public sub-modules left out)."""
        prefix = f"{owner}."
        return [
            name
            for name, rows in self._rows_of.items()
            if name.startswith(prefix)
            and "." not in name[len(prefix) :]
            and name not in hidden
            and (not kinds or self._chunks[rows[0]].kind in kinds)
        ]

    def _folder(self, subject: str, wanted: str, hidden: Collection[str]) -> Outline | None:
        """Files below a folder that the subject names."""
        if wanted not in ("document", "page", "file"):
            return None
        asked = _words(subject, _KIND_WORDS)
        folders = [folder for folder in self._folders if _words(PurePosixPath(folder).name) == asked]
        found = {folder: [d for d in self._folders[folder] if d not in hidden] for folder in folders}
        shown = [(folder, documents) for folder, documents in found.items() if documents]
        if len(shown) != 1:
            return None
        folder_name, documents = shown[0]
        rows = tuple(self._rows_of[document][0] for document in documents)
        names = tuple(self._chunks[row].title or self._chunks[row].document for row in rows)
        return Outline(folder_name, folder_name, "folder", rows, names[:MAX_BELOW])

    @cached_property
    def _folders(self) -> dict[str, list[str]]:
        """The documents below each folder."""
        found: dict[str, list[str]] = {}
        for document in self._rows_of:
            for folder in PurePosixPath(document.partition("#")[0]).parents:
                if folder.name:
                    found.setdefault(str(folder), []).append(document)
        return found

    def titles(self, rows: Sequence[int]) -> list[str]:
        """The headings of a file in order, without that of the whole."""
        found: list[str] = []
        for row in rows:
            chunk = self._chunks[row]
            for block in blocks(chunk.text, chunk.header, not chunk.start):
                title = " ".join(block.title.split())
                if block.kind == HEADING and title and title != chunk.title and title not in found:
                    found.append(title)
            if len(found) >= MAX_HEADINGS:
                break
        return found


def _is_headed(subject: str, wanted: str, document: str) -> bool:
    """Whether the parts asked for are a file's headings."""
    name = PurePosixPath(document.partition("#")[0]).name.lower()
    text = not _TEXTS.isdisjoint(_WORD.findall(subject.lower())) or name in subject.lower()
    return wanted in _HEADED or (wanted in _HEADED_TEXT and text)


def opening_sentences(text: str, header: str = "", most: int = 2) -> list[tuple[int, int]]:
    """Spans of the first sentences of a document's text, after its front matter and fields ("Last updated: ...")."""
    front = _FRONT_MATTER.match(text)
    begins = front.end() if front else 0
    found = [(unit.start, unit.end) for unit in units(text, header, True) if unit.kind == SENTENCE]
    spans = [(max(start, begins), end) for start, end in found if end > begins]
    said = [(span, text[slice(*span)]) for span in spans]
    return [span for span, words in said if len(words.split()) > 2 and not _FIELD.fullmatch(words)][:most]


def _called(chunk: Chunk) -> set[str]:
    """What people call a document: its id, last name, title, file name, in words."""
    document = chunk.document
    names = {document.lower()}
    if chunk.kind in CODE_KINDS:
        names.add(document.rpartition(".")[2].lower())
        return names
    path = PurePosixPath(document.partition("#")[0])
    names |= {_words(chunk.title), _words(chunk.title, _KIND_WORDS)}
    if "#" not in document:
        names |= {_words(path.stem), _words(path.stem, _KIND_WORDS), fold(path.name)}
    return {name for name in names if name}


def _words(text: str, without: Collection[str] = ()) -> str:
    """Stems of a name's words: "The Leave-Policy" and "leave policy" are one name."""
    words = [fold(word) for word in _WORD.findall(text)]
    return " ".join(stem(word) for word in words if word not in without and word not in ("the", "a", "an"))
