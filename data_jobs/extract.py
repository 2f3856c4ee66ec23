"""Turn the bytes of one file into records: a title and a body each, or a reason why there is none.

Text is only cut out here (front matter, the fields of a JSON record), not cleaned: see ``text``. A record's optional
fields are ``id``, ``title`` and ``questions`` (a list of what people ask that it answers); one of a wrong type counts
as missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.sources.files import FileItem, UnreadableFileError, decode, read_bytes

RECORD_REASONS = ("bad_json", "not_an_object", "no_text", "text_not_string", "nul_bytes", "invalid_utf8", "long_line")
TEXT_FIELDS = ("text", "content", "body", "document")
MAX_TITLE_CHARS = 200
MAX_ID_CHARS = 128

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.M | re.I)
_HEADING = re.compile(r"[ ]{0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*\Z")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_<>])\1{2,}[ \t]*\Z")
_FENCE = re.compile(r"[ ]{0,3}(?:```|~~~)")


def read_records(
    root: Path, item: FileItem, source_name: str, limits: tuple[int, int]
) -> Iterator[Document | Quarantined]:
    """The records of one file in order. ``limits``: most bytes of a file, and of a line.

    A file that cannot be read yields one ``Quarantined`` with an empty ``record``; a bad record of a .jsonl file one
    that names it.
    """
    try:
        data = read_bytes(root, item, limits[0])
        if item.path.lower().endswith(".jsonl"):
            yield from _json_records(data, item.path, source_name, limits[1])
            return
        text = decode(data, limits[1])
    except UnreadableFileError as error:
        yield Quarantined(item.path, "", *error.args)
        return
    title, body = split_title(text.replace("\r\n", "\n").replace("\r", "\n"), item.path)
    yield Document(item.path, title, body, item.path, source_name, "file")


def split_title(text: str, path: str) -> tuple[str, str]:
    """Title and body of a text file. The title is the front matter's, else the first heading, else the file's name.

    Front matter is no part of the body; a heading stays in it.
    """
    title, kind = "", PurePosixPath(path).suffix.lower()
    if front := (_FRONT_MATTER.match(text) if kind == ".md" else None):
        found = _FRONT_TITLE.search(front[1])
        title = found[1].strip().strip("\"'") if found else ""
        text = text[front.end() :]
    if not title and kind in (".md", ".rst"):
        title = _first_heading(text, markdown=kind == ".md")
    if not title:
        title = PurePosixPath(path).stem.replace("_", " ").replace("-", " ").strip() or path
    return clean_title(title), text


def clean_title(title: str) -> str:
    return " ".join(title.split())[:MAX_TITLE_CHARS]


def _first_heading(text: str, markdown: bool) -> str:
    before, fenced = "", False
    for line in text.split("\n")[:400]:
        if markdown and _FENCE.match(line):
            fenced = not fenced
        elif fenced:
            continue
        elif markdown and (heading := _HEADING.match(line[:500])):
            return heading[1]
        elif _is_title(before) and _UNDERLINE.match(line) and (line[0] in "=-" if markdown else True):
            return before.strip()
        before = line
    return ""


def _is_title(line: str) -> bool:
    """A line that can stand above an underline: not empty, not itself a rule or a table, a list or a quotation."""
    stripped = line.strip()
    return 0 < len(stripped) <= MAX_TITLE_CHARS and any(c.isalnum() for c in stripped) and stripped[0] not in "|>-*+"


def _json_records(data: bytes, path: str, source_name: str, max_line: int) -> Iterator[Document | Quarantined]:
    used: set[str] = set()
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _parsed(decode(line, max_line))
            field = next(f for f in TEXT_FIELDS if f in record)
        except UnreadableFileError as error:
            yield Quarantined(path, str(number), *error.args)
            continue
        name = _record_name(record.get("id"), number, used)
        title = record.get("title")
        title = clean_title(title) if isinstance(title, str) else ""
        title = title or clean_title(_first_heading(record[field], markdown=True))
        document = f"{path}#{name}"
        questions = record.get("questions")
        asked = tuple(q for q in questions if isinstance(q, str)) if isinstance(questions, list) else ()
        yield Document(
            document, title or document, record[field], f"{path}:{number}", source_name, "record", questions=asked
        )


def _parsed(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError("bad_json", str(error)[:200]) from None
    if not isinstance(record, dict):
        raise UnreadableFileError("not_an_object", f"a {type(record).__name__}")
    present = [f for f in TEXT_FIELDS if f in record]
    if not present:
        raise UnreadableFileError("no_text", f"none of the fields {' '.join(TEXT_FIELDS)}")
    if not isinstance(record[present[0]], str):
        raise UnreadableFileError("text_not_string", f"{present[0]} is a {type(record[present[0]]).__name__}")
    return record


def _record_name(given: Any, number: int, used: set[str]) -> str:
    """The record's own id where it is short, printable text that no earlier record has; else its line number."""
    name = given if isinstance(given, str) and 0 < len(given) <= MAX_ID_CHARS and given.isprintable() else str(number)
    while name in used:
        name = f"{name}~{number}"
    used.add(name)
    return name
