"""What a stage's rows must be: a declared schema and named rules, checked when they are written and when they are read.

A rule is a function over a whole table that gives the rows that break it. A table that breaks one is refused with the
file, the row group, the first such row and the rule: what is wrong in our own files is a bug or damage, never input to
be quarantined. Parquet's own checks are turned on as well (``parquet``): pages carry checksums.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.core.access import NOBODY_MAY, Access
from cluster.core.errors import IntegrityError
from data_jobs.corpus.parquet import open_parquet, read_row_group

if TYPE_CHECKING:
    import pyarrow as pa

SHA256 = re.compile(r"[0-9a-f]{64}")
SENSITIVITIES = frozenset(("", "public", "internal", "restricted"))
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

Broken = Callable[["pa.Table"], Iterator[int]]


@dataclass(frozen=True)
class ColumnRule:
    """``broken`` yields the positions of rows that break the rule ``name``."""

    name: str
    broken: Broken


@dataclass(frozen=True)
class Contract:
    """What the rows of a stage are: its columns with their types, and what holds in every row.

    ``unique`` is a column whose values occur once in all files of a version together; ``optional`` columns may be
    missing from a file, all others must be there.
    """

    stage: str
    schema: pa.Schema
    rules: tuple[ColumnRule, ...] = ()
    unique: str = ""
    optional: frozenset[str] = frozenset()

    def check(self, table: pa.Table, where: str, group: int = 0, seen: set[str] | None = None) -> None:
        """Check one table, or one row group of a file.

        Args:
            where: what it is called in the error.
            seen: values of the ``unique`` column so far; it is added to.

        Raises:
            IntegrityError: ``where``, the row group and the rule are in the message and the extras.
        """
        for name in self.schema.names:
            index = table.schema.get_field_index(name)
            if index < 0 and name in self.optional:
                continue
            if index < 0:
                raise _refused(where, group, None, "schema", f"the column {name} is missing")
            if not _fits(table.schema.field(index).type, self.schema.field(name).type):
                wanted, found = self.schema.field(name).type, table.schema.field(index).type
                raise _refused(where, group, None, "schema", f"the column {name} is {found}, not {wanted}")
        for rule in self.rules:
            for row in rule.broken(table):
                raise _refused(where, group, row, rule.name)
        if self.unique:
            values = seen if seen is not None else set()
            for row, value in enumerate(table.column(self.unique).to_pylist()):
                if value in values:
                    raise _refused(where, group, row, f"unique {self.unique}", repr(value)[:100])
                values.add(value)

    def read(self, path: Path, seen: set[str] | None = None) -> Iterator[pa.Table]:
        """A Parquet file's row groups, each checked before it is handed out.

        Raises:
            IntegrityError: a row group cannot be read, or breaks the schema or a rule.
        """
        file = open_parquet(path)
        for group in range(file.num_row_groups):
            table = read_row_group(file, group, path)
            self.check(table, str(path), group, seen)
            yield table


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column is of the wanted type; one without any value has none."""
    import pyarrow as pa

    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _fits(found.value_type, wanted.value_type)
    return bool(found == wanted or pa.types.is_null(found))


def _refused(where: str, group: int, row: int | None, rule: str, detail: str = "") -> IntegrityError:
    at = f"{where}:{group}" + ("" if row is None else f", row {row}")
    return IntegrityError(
        f"{at} breaks the rule {rule!r}{f' ({detail})' if detail else ''}: damaged, or made by another program; "
        "prepare it again",
        path=where, row_group=group, row=row, rule=rule,
    )  # fmt: skip


# -- rules -------------------------------------------------------------------------------------------------------------
def present(*columns: str) -> tuple[ColumnRule, ...]:
    """Neither null nor empty."""
    return tuple(ColumnRule(f"{name} is present", _rows(name, bool)) for name in columns)


def not_null(*columns: str) -> tuple[ColumnRule, ...]:
    """There is a value, which may be empty."""
    return tuple(ColumnRule(f"{name} is not null", _rows(name, lambda value: value is not None)) for name in columns)


def one_of(column: str, allowed: frozenset[str]) -> ColumnRule:
    """One of the allowed values; a missing value counts as an empty one."""
    return ColumnRule(
        f"{column} is one of {', '.join(sorted(allowed - {''}))}", _rows(column, lambda v: (v or "") in allowed)
    )


def label(column: str) -> ColumnRule:
    """Empty, or an access label that somebody can have."""

    def holds(value: object) -> bool:
        return value == "" or Access.of_text(value).tenant != NOBODY_MAY

    return ColumnRule(f"{column} is a label", _rows(column, holds))


def sha256(column: str) -> ColumnRule:
    """Empty, or a sha256 in hex."""
    return ColumnRule(f"{column} is a sha256", _rows(column, lambda v: not v or SHA256.fullmatch(v) is not None))


def span(column: str) -> ColumnRule:
    """Empty, or [start, end) with 0 <= start <= end."""

    def holds(value: Sequence[int] | None) -> bool:
        return not value or (len(value) == 2 and 0 <= value[0] <= value[1])

    return ColumnRule(f"{column} is a span", _rows(column, holds))


def of_size(column: str, size: int) -> ColumnRule:
    """Exactly ``size`` bytes."""
    return ColumnRule(
        f"{column} has {size} bytes", _rows(column, lambda value: value is not None and len(value) == size)
    )


def printable(*columns: str) -> tuple[ColumnRule, ...]:
    """No control characters other than tab and line ends."""
    return tuple(
        ColumnRule(f"{name} has no control characters", _rows(name, lambda v: not v or _CONTROL.search(v) is None))
        for name in columns
    )


def _rows(column: str, holds: Callable[..., bool]) -> Broken:
    def broken(table: pa.Table) -> Iterator[int]:
        values = table.column(column).to_pylist() if column in table.schema.names else ()
        for row, value in enumerate(values):
            if not holds(value):
                yield row

    return broken
