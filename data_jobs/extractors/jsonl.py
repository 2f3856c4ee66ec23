"""JSON Lines: one record a line.

A record's text is one of its fields text, content, body, document, else all its fields; ``id`` (text or a number),
``title`` and ``questions`` (a list of what people ask that it answers) are optional, and count as missing where they
have another type.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import UTF8_MARK, codec_of_lines, decode_line, decode_wide, marked
from data_jobs.extractors.protocol import (
    TEXT_FIELDS,
    Format,
    Limits,
    Origin,
    Skipped,
    UnreadableFileError,
    clean_title,
    record_name,
)
from data_jobs.extractors.titles import text_title

MAX_DIGITS, MAX_DEPTH = 4_000, 20
RECORD_FIELDS = ("id", "title", "questions")  # what they say goes into the document's own fields

Line = tuple[int, int, int, bytes, tuple[str, ...]]


class JsonLinesExtractor:
    """JSON Lines files: one record per line. See ``protocol.Extractor``."""

    format = Format(
        "jsonl", (".jsonl", ".ndjson"), holds_records=True,
        content_types={"application/jsonl": ".jsonl", "application/x-ndjson": ".jsonl"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        used: set[str] = set()
        for number, start, end, line, steps in _objects(lines_of(data)):
            if line.strip() in (b"", b"[", b"]", b"],"):
                continue
            if number > limits.rows:
                raise UnreadableFileError("too_many_rows", f"over {limits.rows} lines")
            try:
                decoded, odd = decode_line(line, limits.line_bytes)
                record = parsed(decoded)
                text, unused = text_of(record)
            except UnreadableFileError as error:
                yield origin.refused(str(number), *error.args)
                continue
            name = record_name(record.get("id"), number, used)
            title, questions = record_fields(record, text)
            yield origin.record(
                name, str(number), title, text, questions=questions, span=(start, end),
                steps=(*steps, *odd, *Skipped(fields=unused).steps()),
            )  # fmt: skip


def _objects(lines: Iterator[Line]) -> Iterator[Line]:
    """The lines, those of an object that is printed over several of them as one: from a ``{`` alone on its line to the
    ``}`` below it."""
    held: list[Line] = []
    for line in lines:
        said = line[3].rstrip()
        held.append(line)
        if len(held) == 1 and said.strip() != b"{":
            yield held.pop()
        elif len(held) > 1 and said.removesuffix(b",") == held[0][3].rstrip().replace(b"{", b"}"):
            number, start, _, _, steps = held[0]
            yield number, start, line[2], b"\n".join(part[3] for part in held), steps
            held.clear()
    yield from held


def lines_of(data: bytes) -> Iterator[Line]:
    """Number, first and last byte in the file, UTF-8 bytes and decoding steps of each line.

    Raises:
        UnreadableFileError: a byte order mark says UTF-16, and it is not.
    """
    steps: tuple[str, ...] = ()
    name, offset = marked(data), 0
    if name is not None:
        text, steps = decode_wide(data, name)
        wide, offset = (name, 0) if name[-2:] in ("le", "be") else (f"{name}-{'le' if data[0] == 0xFF else 'be'}", 2)
        offset *= 2 if name == "utf-32" else 1
        for number, part in enumerate(text.split("\n"), start=1):
            size = len((part + "\n").encode(wide, "surrogatepass"))
            end = min(offset + size - len("\n".encode(wide)), len(data))
            yield number, offset, end, part.encode("utf-8", "surrogatepass"), steps
            offset += size
        return
    if data.startswith(UTF8_MARK):
        offset = len(UTF8_MARK)
    codec, line_end = codec_of_lines(data), end_of_lines(data)
    steps = () if codec == "utf-8" else (f"decoded:{codec}",)
    number = 0
    while offset <= len(data):
        number += 1
        at = data.find(line_end, offset)
        end = len(data) if at < 0 else at
        line = data[offset:end]
        # No trail byte of these encodings is a line end, so a line can be decoded by itself.
        yield number, offset, end, line if codec == "utf-8" else line.decode(codec, "replace").encode(), steps
        offset = end + 1


def end_of_lines(data: bytes) -> bytes:
    """The byte that ends the lines of a file: LF, or CR where there is no LF, as old spreadsheets write."""
    return b"\n" if b"\n" in data or b"\r" not in data else b"\r"


class _Numeral(str):
    """A number as it is written: one that no computer's number holds."""


def parsed(line: str) -> dict[str, Any]:
    """One JSON object. What files of one array have around their objects is no part of them, nor is the separator of
    RFC 7464; a name used twice gets a number, as in tables.

    Raises:
        UnreadableFileError: ``bad_json`` or ``not_an_object``.
    """
    try:
        record = _loaded(line.strip().lstrip("\x1e"))
    except (ValueError, RecursionError) as error:
        try:
            record = _loaded(line.strip().removeprefix("[").removesuffix("]").strip().removesuffix(","))
        except (ValueError, RecursionError):
            raise UnreadableFileError("bad_json", str(error)[:200]) from None
    if not isinstance(record, dict):
        raise UnreadableFileError("not_an_object", f"a {type(record).__name__}")
    return record


def _loaded(source: str) -> Any:
    return json.loads(source, parse_int=_whole, parse_float=_real, object_pairs_hook=_object)


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) < MAX_DIGITS else _Numeral(digits)


def _real(digits: str) -> float | str:
    number = float(digits)
    written = sum(c.isdigit() for c in digits.lower().partition("e")[0].strip("-0."))
    return number if math.isfinite(number) and (number or not written) and written <= 17 else _Numeral(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last value of a name is its value, as everywhere; earlier ones are kept under numbered names."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    last = {name: place for place, (name, _) in enumerate(pairs)}
    for place, (name, value) in enumerate(pairs):
        if place != last[name]:
            count = 2
            while f"{name} {count}" in found:
                count += 1
            found[f"{name} {count}"] = value
    return found


def text_of(record: dict[str, Any]) -> tuple[str, int]:
    """The text of a record, and how many of its fields are no part of it.

    The text is the first of ``TEXT_FIELDS`` that is filled (of a list or an object, the texts in it). Without any such
    field it is all the others, ``name: value`` a line.

    Raises:
        UnreadableFileError: ``no_text`` or ``text_not_string``.
    """
    present = [field for field in TEXT_FIELDS if record.get(field) not in (None, "", [])]
    for field in present:
        text = record[field]
        if isinstance(text, list | dict):
            text = _parts(text)
        if isinstance(text, str) and not isinstance(text, _Numeral) and text.strip():
            own = (field, *RECORD_FIELDS)
            return text, sum(name not in own and value is not None for name, value in record.items())
    if present:
        raise UnreadableFileError("text_not_string", f"{present[0]} is a {type(record[present[0]]).__name__}")
    if any(field in record for field in TEXT_FIELDS):
        raise UnreadableFileError("no_text", "its text is empty")
    lines = [
        f"{name}: {said}" for name, value in record.items() if name not in RECORD_FIELDS and (said := _said(value))
    ]
    if not lines:
        raise UnreadableFileError("no_text", f"none of the fields {' '.join(TEXT_FIELDS)}, nor others with text")
    return "\n".join(lines), 0


def _parts(value: Any, depth: int = 0) -> str:
    """The texts in a list or an object, a line each: of messages and parts of messages their text fields only."""
    if isinstance(value, str):
        return value
    if depth > MAX_DEPTH:
        return ""
    if isinstance(value, dict):
        own = [value[field] for field in TEXT_FIELDS if isinstance(value.get(field), str | list | dict)]
        value = own[:1] or list(value.values())
    items = (_parts(item, depth + 1) for item in value) if isinstance(value, list) else ()
    return "\n".join(text for text in items if text.strip())


def _said(value: Any) -> str:
    """A field's value on one line; empty where it says nothing."""
    if value is None or isinstance(value, bytes):
        return ""
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value, ensure_ascii=False, default=str)


def record_fields(record: dict[str, Any], text: str) -> tuple[str, tuple[str, ...]]:
    """Title (the field's, else the text's own, else empty) and questions of a record."""
    title = record.get("title")
    title = clean_title(title) if isinstance(title, str) else ""
    questions = record.get("questions")
    asked = tuple(q for q in questions if isinstance(q, str)) if isinstance(questions, list) else ()
    return title or clean_title(text_title(text)), asked
