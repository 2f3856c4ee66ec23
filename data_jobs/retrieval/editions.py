"""Several editions of one document: which is the current one, and of what date each is.

Two documents are editions of one where they have the same title, or the same name without its date and version. What
tells them apart is read from the document itself: header fields and front matter (``date: 2024-05-01``,
``Version: 2.1``), a line "last updated ..." at its top, its title, its file's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cluster.core.records import Chunk
from data_jobs.retrieval.analysis import fold

OPENING_CHARS = 800  # of a document, where its date and version are looked for
MAX_EDITIONS = 5  # more of one title are a series (minutes, reports): each stands for itself
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar", "feb february februar", "mar march märz", "apr april", "may mai", "jun june juni",
            "jul july juli", "aug august", "sep sept september", "oct october oktober", "nov november",
            "dec december dezember",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
_ISO = r"(?<!\d)((?:19|20)\d\d)[-_./](0?[1-9]|1[0-2])(?:[-_./](0?[1-9]|[12]\d|3[01]))?(?!\d)"
_DATE = re.compile(
    rf"{_ISO}|(?<!\d)(\d{{1,2}})\.?\s+([A-Za-zä]{{3,9}})\.?,?\s+((?:19|20)\d\d)"
    r"|\b([A-Za-zä]{3,9})\.?\s+(\d{1,2})?,?\s*((?:19|20)\d\d)"
)
_YEAR = re.compile(r"(?<![\d.])((?:19|20)\d\d)(?![\d.]\d)")
_VERSION = re.compile(
    r"(?<![\w.])(?:v|ver(?:sion)?\.?[\s:=]*|rev(?:ision)?\.?[\s:=]*|edition\s+)(\d+(?:\.\d+){0,3})\b", re.I
)
_FIELD = re.compile(
    r"^(?:[^\w\n]|_)*+(date|datum|published|updated|modified|(?:last|latest)[ _-](?:updated?|modified|revised|changed?)"
    r"|effective(?:[ _-](?:date|from))?"
    r"|valid[ _-]from|as of|stand|revised|version|revision)\b[*_]*+\s*+[:=]?\s*+[*_]*+\s*+(.+)$",
    re.IGNORECASE | re.MULTILINE,
)
_IN_NAME = re.compile(
    rf"{_ISO}|(?<![A-Za-z])v(?:er(?:sion)?)?[ _.-]?\d+(?:[._]\d+)*|(?<!\d)(?:19|20)\d\d(?!\d)"
    r"|\b(?:old|new|final|draft|current|archived?|deprecated)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Edition:
    """One edition: ``stamp`` is its date (``2024-05-01``, ``2024``) or version (``version 2.1``) as a person reads it,
    ``current`` whether none of its siblings is newer, ``newest`` the document that is."""

    stamp: str
    current: bool
    newest: str


def editions(chunks: Sequence[Chunk]) -> dict[str, Edition]:
    """By document, those that have siblings; what cannot be told apart by date or version is left out."""
    first: dict[str, Chunk] = {}
    for chunk in chunks:
        if chunk.kind == "file" and "#" not in chunk.document and not chunk.start:
            first.setdefault(chunk.document, chunk)
    groups: dict[str, list[str]] = {}
    for document, chunk in first.items():
        for key in _keys(chunk):
            groups.setdefault(key, []).append(document)
    found: dict[str, Edition] = {}
    for documents in groups.values():
        if not 1 < len(documents) <= MAX_EDITIONS:
            continue
        dated = {document: _stamp(first[document]) for document in documents}
        for kind in ("date", "version"):
            ranks = {document: stamp[kind] for document, stamp in dated.items() if kind in stamp}
            if len(ranks) == len(documents) and len({rank for rank, _ in ranks.values()}) > 1:
                newest = max(ranks, key=lambda document: ranks[document][0])
                for document, (rank, shown) in ranks.items():
                    found.setdefault(document, Edition(shown, rank == ranks[newest][0], newest))
                break
    return found


def _keys(chunk: Chunk) -> set[str]:
    """What editions share: folder and name without date and version, or the title without them."""
    path = PurePosixPath(chunk.document)
    name, folder, title = _plain(path.stem.replace("_", "-")), _plain(str(path.parent)), _plain(chunk.title)
    keys = (
        {f"name {folder} {name}"} if re.search(r"[^\W\d_]", name) else set()
    )  # what is named by its date alone is a day's, not an edition
    # "Introduction" is the title of many documents that are no editions of each other.
    return keys | ({f"title {title}"} if len(title.split()) > 1 else set())


def _plain(text: str) -> str:
    """Words and numbers but for date and version: chapters 1 and 2 are no editions of each other."""
    return " ".join(re.findall(r"[^\W_]+", fold(_IN_NAME.sub(" ", text))))


def _stamp(chunk: Chunk) -> dict[str, tuple[tuple[int, ...], str]]:
    """Date and version of a document: of each a rank that sorts, and how it is said. Its header goes before its title,
    that before its name."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    opening = chunk.text[:OPENING_CHARS]
    fields = [match.group(0) for match in _FIELD.finditer(opening)]
    for text in (*fields, chunk.title, re.sub(r"[_-]", "-", chunk.document)):
        if "date" not in found and (date := date_in(text)):
            found["date"] = date
        if "version" not in found and (match := _VERSION.search(text.replace("_", " ").replace("-", " "))):
            found["version"] = tuple(int(part) for part in match[1].split(".")), f"version {match[1]}"
    return found


def date_in(text: str) -> tuple[tuple[int, ...], str] | None:
    """The first date of a text: what sorts, and ISO 8601 as far as it is known; a year alone counts."""
    for match in _DATE.finditer(text):
        year, month, day, day2, month2, year2, month3, day3, year3 = match.groups()
        if year:
            return _dated(int(year), int(month), int(day or 0))
        named = _MONTHS.get(fold(month2 or month3 or "")) or _MONTHS.get((month2 or month3 or "").lower())
        if named:
            return _dated(int(year2 or year3), named, int(day2 or day3 or 0))
    if alone := _YEAR.search(text):
        return (int(alone[1]), 0, 0), alone[1]
    return None


def _dated(year: int, month: int, day: int) -> tuple[tuple[int, ...], str]:
    return (year, month, day), f"{year:04d}-{month:02d}" + (f"-{day:02d}" if day else "")


def years_in(text: str) -> set[str]:
    """The years that a text names."""
    return set(_YEAR.findall(text))


def asks_for(question: str, edition: Edition, names: str = "") -> bool:
    """Whether a question names an edition by its year or version, and so wants that one.

    Args:
        names: the document's name and title: a year there is the document's own, whenever it was published.
    """
    if own := years_in(re.sub(r"[_-]", " ", names)):
        return not own.isdisjoint(years_in(question))
    if edition.stamp.startswith("version "):
        return re.search(rf"\bv(?:ersion)?\.?\s*{re.escape(edition.stamp[8:])}\b", question, re.I) is not None
    return edition.stamp[:4] in years_in(question)
