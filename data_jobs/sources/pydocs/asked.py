"""Questions people ask about the standard library, shipped as data: ``questions/*.tsv``, ``name<TAB>question``.

Those of the names that are asked for most (``part_a`` to ``part_c``) are written from knowledge of how people use
Python, those of every other documented name (``part_d``) from its name and docstring; all without sight of any question
that the project is measured on. A name may be any public name of the thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.core.errors import BadInputError
from cluster.core.records import Document

FOLDER = Path(__file__).with_name("questions")


def shipped_questions(folder: Path = FOLDER) -> Iterator[tuple[str, str]]:
    """``(name, question)`` of every line of every file, files sorted by name; empty lines are skipped.

    Raises:
        BadInputError: a line without exactly one tab, or without a name or question.
    """
    for path in _files(folder):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            name, tab, question = line.partition("\t")
            if not line.strip():
                continue
            if not (tab and name.strip() and question.strip()) or "\t" in question:
                raise BadInputError(f"{path}:{number}: a line must be NAME<TAB>QUESTION", path=str(path), line=number)
            yield name.strip(), question.strip()


def questions_version(folder: Path = FOLDER) -> dict[str, str]:
    """sha256 of each file by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in _files(folder)}


def with_questions(documents: Sequence[Document], folder: Path = FOLDER) -> tuple[list[Document], int]:
    """The documents with the questions shipped for them, and how many questions are for names that are not there."""
    owner = {alias: document.id for document in documents for alias in document.aliases}
    owner |= {document.id: document.id for document in documents}
    asked: dict[str, list[str]] = {}
    unplaced = 0
    for name, question in shipped_questions(folder):
        if name in owner:
            asked.setdefault(owner[name], []).append(question)
        else:
            unplaced += 1
    return [
        replace(document, questions=(*document.questions, *asked[document.id])) if document.id in asked else document
        for document in documents
    ], unplaced


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tsv"))
