"""CSV and TSV: a record per row, by the names in the header.

With a column called text, content, body or document that column is the record's text, ``title`` and ``id`` are used
where there are any. Without one a record is all its columns, ``name: value`` a line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import UTF8_MARK, decode, decode_file, marked
from data_jobs.extractors.protocol import (
    TEXT_FIELDS,
    Budget,
    Format,
    Limits,
    Origin,
    UnreadableFileError,
    clean_title,
    printable,
    record_name,
)

_DELIMITERS = ",;\t|"


class TableExtractor:
    """CSV and TSV files with a header: one record per row. See ``protocol.Extractor``."""

    format = Format("csv", (".csv", ".tsv"), holds_records=True, content_types={"text/csv": ".csv"})

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        lines = _Lines(data, limits)
        first = lines.peek()
        tabs = origin.path.lower().endswith(".tsv")
        delimiter = "\t" if tabs else max(_DELIMITERS, key=lambda d: (first.count(d), -_DELIMITERS.index(d)))
        csv.field_size_limit(max(limits.line_bytes, 1 << 17))
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        used: set[str] = set()
        budget = Budget(limits, len(data))
        while True:
            number, start = lines.number + 1, lines.offset
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                if header is None:
                    raise UnreadableFileError("no_header", str(error)) from None
                lines.rows += 1
                yield origin.refused(str(number), "bad_row", f"lines {number}-{lines.number}: {error}")
                continue
            if lines.bad is not None:
                problem, lines.bad = lines.bad, None
                if header is None:
                    raise UnreadableFileError(*problem)
                lines.rows += 1
                yield origin.refused(str(number), *problem)
                continue
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = _header(row)
                continue
            lines.rows += 1
            if lines.rows > limits.rows:
                raise UnreadableFileError("too_many_rows", f"over {limits.rows} rows")
            if len(row) != len(header):
                yield origin.refused(str(number), "ragged_row", f"{len(row)} fields; the header has {len(header)}")
                continue
            values = dict(zip(header, row, strict=True))
            text = _text(values)
            budget.take_text(text)
            if not text.strip():
                yield origin.refused(str(number), "no_text", "the text column is empty")
                continue
            name = record_name(values.get("id"), number, used)
            title = clean_title(values.get("title", ""))
            # Offsets in a file that had to be decoded first mean nothing in the raw one.
            span = (0, origin.size) if lines.steps else (start, lines.offset)
            yield origin.record(name, str(number), title, text, span=span, steps=lines.steps)
        if header is None:
            raise UnreadableFileError("no_header", "no line with text")
        if not lines.rows:
            raise UnreadableFileError("empty", "a header and no rows")


class _Lines:
    """The file's lines as the csv module wants them, and where the last one ended (bytes).

    A line that is not UTF-8 becomes ``bad`` (reason, detail) and empty text, so that the others go on.
    """

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.steps: tuple[str, ...] = ()
        self.number = self.rows = 0
        self.bad: tuple[str, str] | None = None
        self.limits = limits
        self.offset = len(UTF8_MARK) if data.startswith(UTF8_MARK) else 0
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            # A whole file in another encoding, or else one with bad lines.
            try:
                text, self.steps = decode_file(data, limits.line_bytes)
                data = text.encode()
            except UnreadableFileError:
                if marked(data):
                    raise
        self.data = data

    def peek(self) -> str:
        end = self.data.find(b"\n", self.offset)
        return self.data[self.offset : len(self.data) if end < 0 else end].decode("utf-8", "replace")

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self.offset >= len(self.data):
            raise StopIteration
        at = self.data.find(b"\n", self.offset)
        end = len(self.data) if at < 0 else at + 1
        line, self.offset = self.data[self.offset : end], end
        self.number += 1
        try:
            return decode(line, self.limits.line_bytes)
        except UnreadableFileError as error:
            self.bad = (str(error.args[0]), str(error.args[1]))
            return "\n"


def _header(row: list[str]) -> list[str]:
    """Column names in lower case.

    Raises:
        UnreadableFileError: names are missing, double, or numbers: a first line of data is no header.
    """
    names = [name.strip().lower() for name in row]
    if not all(names) or len(set(names)) < len(names):
        raise UnreadableFileError("no_header", "the first line must name each column once")
    if any(_is_number(name) for name in names):
        raise UnreadableFileError("no_header", f"the first line has a number: {printable(','.join(row))[:100]}")
    return names


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _text(values: dict[str, str]) -> str:
    column = next((field for field in TEXT_FIELDS if field in values), None)
    if column is not None:
        return values[column]
    return "\n".join(f"{name}: {value.strip()}" for name, value in values.items() if value.strip())
