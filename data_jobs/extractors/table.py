"""CSV and TSV: a record per row, by the names in the header.

With a column called text, content, body or document that column begins the record's text, ``title`` and ``id`` are used
where there are any. All other columns follow, ``name: value`` a line. What is odd in a table costs nothing but itself:
columns without a name get one, a name used twice gets a number, short rows lack their last values, long rows have
values in columns without a name, and a quotation mark that nothing closes is a character.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import UTF8_MARK, codec_of_lines, decode_file, decode_line, marked
from data_jobs.extractors.jsonl import end_of_lines
from data_jobs.extractors.protocol import (
    TEXT_FIELDS,
    Budget,
    Format,
    Limits,
    Origin,
    UnreadableFileError,
    clean_title,
    record_name,
)

_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?\s*\Z", re.I)  # how Excel is told the delimiter
_BLANK_QUOTE = re.compile(r"[,;\t|] +\"")
MAX_ROW_LINES = 10_000
LOOK_LINES = 12  # so many lines tell the delimiter
ONE_COLUMN = "\x1f"  # a delimiter that no table has


class TableExtractor:
    """CSV and TSV files with a header: one record per row. See ``protocol.Extractor``."""

    format = Format(
        "csv", (".csv", ".tsv", ".tab"), holds_records=True,
        content_types={"text/csv": ".csv", "text/tab-separated-values": ".tsv"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        lines, budget = _Lines(data, limits), Budget(limits, len(data))
        delimiter, above = _delimiter(lines, origin.path)
        rows = _Rows(lines, delimiter)
        used: set[str] = set()
        if above:
            yield _lines_above(lines, above, origin, used)
        count = 0
        for number, start, row, steps, problem in rows:
            count += 1
            if count > limits.rows:
                raise UnreadableFileError("too_many_rows", f"over {limits.rows} rows")
            if problem:
                yield origin.refused(str(number), *problem)
                continue
            names = rows.names(len(row))
            values = {name: cell for name, cell in zip(names, row, strict=False) if cell.strip()}
            given = {name.lower(): value for name, value in values.items()}
            text = _text(values)
            budget.take_text(text)
            if not text.strip():
                yield origin.refused(str(number), "no_text", "no column with text")
                continue
            name = record_name(given.get("id"), number, used)
            # Offsets in a file that had to be decoded first mean nothing in the raw one.
            span = (0, origin.size) if lines.steps else (start, lines.offset)
            title = clean_title(given.get("title", ""))
            yield origin.record(name, str(number), title, text, span=span, steps=(*lines.steps, *steps))
        if not rows.header:
            raise UnreadableFileError("no_header", "no line with text")
        if not count:
            raise UnreadableFileError("empty", "a header and no rows")


def _lines_above(lines: _Lines, count: int, origin: Origin, used: set[str]) -> Document:
    """What stands above a table's header, as a record of its own."""
    number, start, taken = lines.number + 1, lines.offset, list[str]()
    while len(taken) < count and (line := lines.take()) is not None:
        if line.strip():
            taken.append(line.decode("utf-8", "replace").strip())
    span = (0, origin.size) if lines.steps else (start, lines.offset)
    return origin.record(
        record_name(None, number, used), str(number), "", "\n".join(taken), span=span, steps=lines.steps
    )


class _Lines:
    """The file's lines as text, and where the last one ended (bytes)."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.steps: tuple[str, ...] = ()
        self.number = 0
        self.limits = limits
        if marked(data):
            text, self.steps = decode_file(data, limits.line_bytes)
            data = text.encode("utf-8", "surrogatepass")
        elif (codec := codec_of_lines(data)) != "utf-8":
            data, self.steps = data.decode(codec, "replace").encode(), (f"decoded:{codec}",)
        self.data, self.line_end = data, end_of_lines(data)
        self.offset = len(UTF8_MARK) if data.startswith(UTF8_MARK) else 0

    def peek(self, count: int = 1) -> list[str]:
        """The next lines that are not blank, undecodable bytes replaced."""
        at, found = self.offset, list[str]()
        while at < len(self.data) and len(found) < count:
            end = self.data.find(self.line_end, at)
            end = len(self.data) if end < 0 else end
            if self.data[at:end].strip():
                found.append(self.data[at:end].decode("utf-8", "replace"))
            at = end + 1
        return found

    def take(self) -> bytes | None:
        """The next line with its end, None after the last."""
        if self.offset >= len(self.data):
            return None
        at = self.data.find(self.line_end, self.offset)
        end = len(self.data) if at < 0 else at + 1
        line, self.offset = self.data[self.offset : end], end
        self.number += 1
        return line


def _delimiter(lines: _Lines, path: str) -> tuple[str, int]:
    """The character between two values, and how many lines stand above the header.

    It is what the first line says, or what the lines have equally often; of two, what the first has most often without
    a blank behind it. Without one in the first line a file has one column, unless the next lines are a table.
    """
    looked = lines.peek(LOOK_LINES)
    first = looked[0] if looked else ""
    if found := _SEPARATOR_LINE.match(first):
        while (line := lines.take()) is not None and not line.strip():
            pass
        return found[1], 0
    if path.lower().endswith((".tsv", ".tab")) and "\t" in first:
        return "\t", 0
    bare = [re.sub(r'"[^"]*"', "", line) for line in looked]
    above = 0
    while above < len(bare) - 1 and _is_no_row(bare[above], bare[-1]):
        above += 1
    least = 2 if all(line.startswith("#") for line in bare[:above]) else 3
    if above and not any(_is_table(bare[above:], d, least) for d in _DELIMITERS):
        above = 0
    header = bare[above] if bare else ""
    if not any(d in header for d in _DELIMITERS):
        return ONE_COLUMN, 0

    def likely(delimiter: str) -> tuple[int, int, int, int]:
        count = header.count(delimiter)
        same = sum(line.count(delimiter) == count for line in bare[above:]) if count else 0
        tight = len(re.findall(re.escape(delimiter) + r"(?! )", header))
        return same, tight, count, -_DELIMITERS.index(delimiter)

    return max(_DELIMITERS, key=likely), above


def _is_no_row(line: str, last: str) -> bool:
    """Whether a line above a table is a title or a comment: without values, or with others than the last line has."""
    if line.startswith("#"):
        return all(line.count(d) != last.count(d) for d in _DELIMITERS if d in last)
    return not any(d in line for d in _DELIMITERS)


def _is_table(lines: Sequence[str], delimiter: str, least: int) -> bool:
    """Whether lines, the first of them with names, have as many of a delimiter each, without a blank behind it as in
    prose."""
    counts = {len(re.findall(re.escape(delimiter) + r"(?! )", line)) for line in lines}
    named = any(char.isalpha() for char in lines[0])
    return len(lines) >= least and len(counts) == 1 and counts != {0} and named


class _Rows:
    """The rows below the header: line number, first byte, values, steps, and why a row cannot be used."""

    def __init__(self, lines: _Lines, delimiter: str) -> None:
        self.lines, self.delimiter = lines, delimiter
        self.header: list[str] = []
        self.width = 0
        csv.field_size_limit(max(lines.limits.line_bytes, 1 << 17))

    def __iter__(self) -> Iterator[tuple[int, int, list[str], tuple[str, ...], tuple[str, ...]]]:
        while True:
            number, start = self.lines.number + 1, self.lines.offset
            line = self.lines.take()
            if line is None:
                return
            if not line.strip():
                continue
            try:
                row, steps = self._row(line)
            except UnreadableFileError as error:
                if not self.header:
                    raise
                yield number, start, [], (), tuple(str(part) for part in error.args)
                continue
            if not any(cell.strip() for cell in row):
                continue
            if not self.header:
                self.width = len(row)
                numbers = all(_is_number(cell) or not cell.strip() for cell in row)
                self.header = _named(["" for _ in row] if numbers else row)
                if not numbers:  # a first line of numbers is data without a header
                    continue
            yield number, start, row, steps, ()

    def names(self, width: int) -> list[str]:
        """Names of the columns of a row, those beyond the header by their number."""
        return [*self.header, *(f"column {n}" for n in range(len(self.header) + 1, width + 1))]

    def _row(self, line: bytes) -> tuple[list[str], tuple[str, ...]]:
        """The values of the row that begins with ``line``; one that goes on in other lines takes them."""
        limit = self.lines.limits.line_bytes
        text, steps = decode_line(line, limit)
        row = self._parsed(text)
        if row is not None:
            if self.width and len(row) != self.width and _BLANK_QUOTE.search(text):
                spaced = self._parsed(text, skipinitialspace=True)
                row = spaced if spaced is not None and len(spaced) == self.width else row
            return row, steps
        before = (self.lines.offset, self.lines.number)
        if '"' in text and (whole := self._continued(line)) is not None:
            return whole
        self.lines.offset, self.lines.number = before
        plain = text.rstrip("\r\n").split(self.delimiter)
        if text.count('"') % 2 == 0 and len(plain) != self.width:  # marks inside a value: lenient as spreadsheets are
            plain = next(csv.reader([_one_line(text)], delimiter=self.delimiter), plain)
        return [_unquoted(cell) for cell in plain], steps

    def _continued(self, line: bytes) -> tuple[list[str], tuple[str, ...]] | None:
        """The row whose quoted value has line ends in it; None where the quotation mark is just a character."""
        pieces, quotes = [line], line.count(b'"')
        size = len(line)
        while quotes % 2 and len(pieces) < MAX_ROW_LINES and size <= self.lines.limits.line_bytes:
            more = self.lines.take()
            if more is None:
                return None
            pieces.append(more)
            quotes += more.count(b'"')
            size += len(more)
        if quotes % 2 or len(pieces) == 1:
            return None
        text, steps = decode_line(b"".join(pieces), max(size, self.lines.limits.line_bytes))
        row = self._parsed(text)
        return (row, steps) if row is not None and (not self.width or len(row) == self.width) else None

    def _parsed(self, text: str, skipinitialspace: bool = False) -> list[str] | None:
        """One row by the rules of CSV, None where it breaks them."""
        try:
            found = list(
                csv.reader([_one_line(text)], delimiter=self.delimiter, strict=True, skipinitialspace=skipinitialspace)
            )
        except csv.Error:
            return None
        return found[0] if len(found) == 1 else None


def _one_line(text: str) -> str:
    """Text as the csv module takes it: line ends of one kind, inside of quotation marks only."""
    body = text.rstrip("\r\n").replace("\r\n", "\n")
    return body if '"' in body else body.replace("\r", " ")


def _unquoted(cell: str) -> str:
    """A value without the marks that stand around all of it, where those inside are doubled."""
    inner = cell[1:-1]
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else cell


def _named(row: Sequence[str]) -> list[str]:
    """A name for each column, none twice: ``column 3`` where there is none, ``price 2`` for a second ``price``."""
    names, used = [], set[str]()
    for number, cell in enumerate(row, start=1):
        name = wanted = " ".join(cell.split()) or f"column {number}"
        count = 1
        while name.lower() in used:
            count += 1
            name = f"{wanted} {count}"
        used.add(name.lower())
        names.append(name)
    return names


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _text(values: dict[str, str]) -> str:
    """A row as text: its text column first, then the others by name; id and title are the document's own fields."""
    lower = {name.lower(): name for name in values}
    column = next((lower[field] for field in TEXT_FIELDS if field in lower), None)
    own = (column, lower.get("id"), lower.get("title")) if column is not None else ()
    lines = [f"{name}: {value.strip()}" for name, value in values.items() if name not in own]
    return "\n".join(([values[column]] if column is not None else []) + lines)
