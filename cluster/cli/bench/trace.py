"""Traces of requests to language models: when each came, how long its prompt and its answer were. Pure but for reading.

The columns are those of the Azure LLM inference traces (Patel et al. 2024, "Splitwise"), in CSV or Parquet.
"""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError

# What a column means -> names it has in traces, written small and without what joins words.
COLUMNS = {
    "time": ("timestamp", "time", "arrivaltime", "arrival", "arrivedat"),
    "context": ("contexttokens", "prompttokens", "inputtokens", "inputlength"),
    "generated": ("generatedtokens", "completiontokens", "outputtokens", "outputlength"),
}
MOST_TOKENS = 10_000_000


@dataclass(frozen=True)
class Arrival:
    """One request of a trace: seconds after the first, tokens of its prompt and of its answer."""

    at_s: float
    context_tokens: int
    generated_tokens: int


def read_trace(path: Path) -> Iterator[Arrival]:
    """The requests of a CSV or Parquet file in their order, read as they are taken.

    Raises:
        BadInputError: there is no such file, a column is missing, a row is wrong or earlier than the one before it, or
            there is none. With the row, counted from 1 without the header.
    """
    if not path.is_file():
        raise BadInputError(f"{path} is not there: name a CSV or Parquet file")
    first: float | None = None
    last = -math.inf
    for number, row in enumerate(_rows(path), 1):
        try:
            at, context, generated = _seconds(row["time"]), _tokens(row["context"]), _tokens(row["generated"])
        except (ValueError, TypeError, OverflowError) as error:
            raise BadInputError(f"{path}: row {number}: {error}", row=number) from None
        if at < last:
            raise BadInputError(
                f"{path}: row {number} came {last - at:g} s before the row above it: sort the trace by time", row=number
            )
        first, last = at if first is None else first, at
        yield Arrival(at - first, context, generated)
    if first is None:
        raise BadInputError(f"{path} has no rows")


def compressed(arrivals: Iterable[Arrival], speed: float, duration_s: float, limit: int | None = None) -> list[Arrival]:
    """What of a trace is replayed: its beginning, ``speed`` times as fast.

    Args:
        duration_s: what comes later than this in the replay's own time is left out.
        limit: most requests.
    """
    found = []
    for arrival in islice(arrivals, limit):
        if arrival.at_s / speed > duration_s:
            break
        found.append(replace(arrival, at_s=arrival.at_s / speed))
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row by what its columns mean."""
    if path.suffix.lower() == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            names = _columns(path, table.fieldnames or ())
            for row in table:
                yield {meaning: row[name] for meaning, name in names.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"{path} is no CSV file in UTF-8: {error}") from None


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            names = _columns(path, table.schema_arrow.names)
            for batch in table.iter_batches(10_000, columns=list(names.values())):
                for row in batch.to_pylist():
                    yield {meaning: row[name] for meaning, name in names.items()}
    except pa.ArrowException as error:
        raise BadInputError(f"{path} is no Parquet file: {error}") from None


def _columns(path: Path, there: Iterable[str]) -> Mapping[str, str]:
    plain = {"".join(filter(str.isalnum, name.lower())): name for name in there}
    found = {meaning: plain[name] for meaning, known in COLUMNS.items() for name in reversed(known) if name in plain}
    if missing := [known[0] for meaning, known in COLUMNS.items() if meaning not in found]:
        raise BadInputError(
            f"{path} lacks {', '.join(missing)}: a trace has TIMESTAMP, ContextTokens and GeneratedTokens, "
            f"and this file {', '.join(map(repr, plain.values())) or 'no columns'}"
        )
    return found


def _seconds(value: Any) -> float:
    """A time, as seconds of any clock: a number, or a date with its time."""
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    try:
        at = float(value)
    except ValueError:
        try:
            return datetime.datetime.fromisoformat(str(value).strip()).timestamp()
        except ValueError:
            raise ValueError(f"{value!r} is no time") from None
    if not math.isfinite(at):
        raise ValueError(f"{value!r} is no time")
    return at


def _tokens(value: Any) -> int:
    try:
        count = int(value)
    except (ValueError, TypeError):
        raise ValueError(f"{value!r} is no number of tokens") from None
    if not 0 <= count <= MOST_TOKENS:
        raise ValueError(f"{count} is no number of tokens")
    return count
