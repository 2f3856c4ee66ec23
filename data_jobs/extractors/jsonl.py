"""JSON Lines: one record a line.

A record needs one of the fields text, content, body, document; ``id``, ``title`` and ``questions`` (a list of what
people ask that it answers) are optional, and count as missing where they have another type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import UTF8_MARK, decode, marked
from data_jobs.extractors.protocol import (
    TEXT_FIELDS,
    Format,
    Limits,
    Origin,
    UnreadableFileError,
    clean_title,
    record_name,
)
from data_jobs.extractors.titles import text_title


class JsonLinesExtractor:
    """JSON Lines files: one record per line. See ``protocol.Extractor``."""

    format = Format(
        "jsonl", (".jsonl", ".ndjson"), holds_records=True,
        content_types={"application/jsonl": ".jsonl", "application/x-ndjson": ".jsonl"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        used: set[str] = set()
        for number, start, end, line, steps in lines_of(data):
            if not line.strip():
                continue
            if number > limits.rows:
                raise UnreadableFileError("too_many_rows", f"over {limits.rows} lines")
            try:
                record = parsed(decode(line, limits.line_bytes))
                text = text_of(record)
            except UnreadableFileError as error:
                yield origin.refused(str(number), *error.args)
                continue
            name = record_name(record.get("id"), number, used)
            title, questions = record_fields(record, text)
            yield origin.record(name, str(number), title, text, questions=questions, span=(start, end), steps=steps)


def lines_of(data: bytes) -> Iterator[tuple[int, int, int, bytes, tuple[str, ...]]]:
    """Number, first and last byte in the file, UTF-8 bytes and decoding steps of each line.

    Raises:
        UnreadableFileError: a byte order mark says UTF-16, and it is not.
    """
    steps: tuple[str, ...] = ()
    name, offset = marked(data), 0
    if name is not None:
        try:
            text = data.decode(name)
        except UnicodeDecodeError as error:
            raise UnreadableFileError("invalid_utf16", f"{name} by its mark, but not at byte {error.start}") from None
        order = "le" if data[0] == 0xFF else "be"
        wide, offset, steps = f"{name}-{order}", 2 if name == "utf-16" else 4, (f"decoded:{name}",)
        for number, part in enumerate(text.split("\n"), start=1):
            size = len((part + "\n").encode(wide, "surrogatepass"))
            end = min(offset + size - len("\n".encode(wide)), len(data))
            yield number, offset, end, part.encode("utf-8", "surrogatepass"), steps
            offset += size
        return
    if data.startswith(UTF8_MARK):
        offset = len(UTF8_MARK)
    number = 0
    while offset <= len(data):
        number += 1
        at = data.find(b"\n", offset)
        end = len(data) if at < 0 else at
        yield number, offset, end, data[offset:end], ()
        offset = end + 1


def parsed(line: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        UnreadableFileError: ``bad_json`` or ``not_an_object``.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError("bad_json", str(error)[:200]) from None
    if not isinstance(record, dict):
        raise UnreadableFileError("not_an_object", f"a {type(record).__name__}")
    return record


def text_of(record: dict[str, Any]) -> str:
    """The text of a record.

    Raises:
        UnreadableFileError: ``no_text`` or ``text_not_string``.
    """
    present = [field for field in TEXT_FIELDS if field in record]
    if not present:
        raise UnreadableFileError("no_text", f"none of the fields {' '.join(TEXT_FIELDS)}")
    text = record[present[0]]
    if not isinstance(text, str):
        raise UnreadableFileError("text_not_string", f"{present[0]} is a {type(text).__name__}")
    return text


def record_fields(record: dict[str, Any], text: str) -> tuple[str, tuple[str, ...]]:
    """Title (the field's, else the text's own, else empty) and questions of a record."""
    title = record.get("title")
    title = clean_title(title) if isinstance(title, str) else ""
    questions = record.get("questions")
    asked = tuple(q for q in questions if isinstance(q, str)) if isinstance(questions, list) else ()
    return title or clean_title(text_title(text)), asked
