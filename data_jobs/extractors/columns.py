"""Parquet: a record per row, one row group after the other; a damaged row group is left out, the others are read.

pyarrow loads most bit flips without any error unless it is told to verify page checksums; files written without them
can hide a flip, which the check of every value for valid UTF-8 only sometimes finds.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.jsonl import RECORD_FIELDS, record_fields, text_of
from data_jobs.extractors.protocol import (
    TEXT_FIELDS,
    Budget,
    Format,
    Limits,
    Origin,
    Skipped,
    UnreadableFileError,
    parsing,
    record_name,
)

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH = 512


class ParquetExtractor:
    """Parquet files: one record per row, a row group read at a time. See ``protocol.Extractor``."""

    format = Format(
        "parquet", (".parquet",), holds_records=True, libraries=("pyarrow",),
        content_types={"application/vnd.apache.parquet": ".parquet"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        file, columns, unused = _opened(data, limits)
        budget, used, row = Budget(limits, len(data)), set[str](), 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            done = row
            try:
                # A row group is one whole: none of its rows are used when a page of it is damaged.
                found = list(_rows(file, group, columns, limits, budget))
            except UnreadableFileError as error:
                if error.args[0] != "damaged":
                    raise
                row = done + rows
                yield origin.refused(f"row_group {group}", "damaged", f"{rows} rows from row {done}: {error.args[1]}")
                continue
            for values in found:
                row += 1
                try:
                    text, _ = text_of(values)
                except UnreadableFileError as error:
                    yield origin.refused(f"row_group {group} row {row}", *error.args)
                    continue
                title, questions = record_fields(values, text)
                name = record_name(values.get("id"), row, used)
                steps = Skipped(fields=unused).steps()
                yield origin.record(name, str(row), title, text, questions=questions, steps=steps)


def _opened(data: bytes, limits: Limits) -> tuple[ParquetFile, list[str], int]:
    """The file, the columns to read, and how many are left out: all but the texts where there are such."""
    with parsing("Parquet", *_errors()):
        import pyarrow.parquet as pq

        if data[:4] == b"PARE" or data[-4:] == b"PARE":
            raise UnreadableFileError("encrypted", "its footer is encrypted")
        plain = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        names, rows = plain.schema_arrow.names, plain.metadata.num_rows
        columns = [name for name in names if name in (*TEXT_FIELDS, *RECORD_FIELDS)]
        if not any(name in TEXT_FIELDS for name in columns):
            columns = names
        if not rows:
            raise UnreadableFileError("empty", "no rows")
        if rows > limits.rows:
            raise UnreadableFileError("too_many_rows", f"{rows} rows; the limit is {limits.rows}")
        # As a dictionary a value repeated a million times is held once: what a bomb of this format is made of.
        texts = [name for name in columns if str(plain.schema_arrow.field(name).type) == "string"]
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True, read_dictionary=texts)
        return file, columns, len(names) - len(columns)


def _rows(
    file: ParquetFile, group: int, columns: list[str], limits: Limits, budget: Budget
) -> Iterator[dict[str, Any]]:
    meta = file.metadata.row_group(group)
    with parsing(f"row group {group}", *_errors()):
        # Of all its columns: looking at one column's own metadata (``meta.column(i)``) ends the process with SIGABRT in
        # pyarrow 26 where its size statistics are damaged. Reading raises as it should.
        if meta.total_byte_size > max(limits.text_bytes, limits.file_bytes) * 4:
            raise UnreadableFileError("too_much_text", f"row group {group} unpacks to {meta.total_byte_size} bytes")
        batches = file.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False)
    seen = 0
    while True:
        with parsing(f"row group {group}", *_errors()):
            batch = next(batches, None)
            if batch is None:
                break
            batch.validate(full=True)  # Arrow stores invalid UTF-8 and hands it on otherwise
        for index in range(batch.num_rows):
            with parsing(f"row group {group}", *_errors()):
                values = {name: batch.column(name)[index].as_py() for name in batch.schema.names}
            for value in values.values():
                budget.take(len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 8)
            seen += 1
            yield values
    if seen != meta.num_rows:
        raise UnreadableFileError("damaged", f"{seen} rows found; the footer says {meta.num_rows}")


def _errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return (pa.ArrowException,)
