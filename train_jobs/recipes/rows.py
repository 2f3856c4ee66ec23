"""Rows of a JSONL file that somebody hands in: good ones are kept, bad ones are counted and named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cluster.core.errors import BadInputError
from cluster.core.telemetry import log_event
from data_jobs.corpus.splits import is_held_out
from train_jobs.data.batches import Arrays

Row = dict[str, Any]
# A row as it is used, out of a JSON object.
Parse = Callable[[Mapping[str, Any]], Row]
NAMED = 5
MAX_CHARS = 100_000  # of one text; a longer one is no example but a file


class BadRowError(ValueError):
    """What is wrong with a row."""


@dataclass(frozen=True)
class Rows:
    """What a file holds.

    Attributes:
        train, held_out: its good rows; a row's ``split`` (``train``, ``test``) decides, else the hash of its ``key``.
        sha256: of the file's bytes.
        refused: ``line 7: there is no query``, for every bad row.
    """

    train: list[Row]
    held_out: list[Row]
    sha256: str
    refused: list[str] = field(default_factory=list)

    @property
    def reference(self) -> str:
        """What it is called in the inputs of a run."""
        return f"jsonl@{self.sha256[:12]}"

    def arrays(self, of: Callable[[list[Row]], Arrays]) -> Arrays:
        """Both sides as ``of`` makes them, by names that begin with ``train.`` and ``held_out.``."""
        sides = (("train", self.train), ("held_out", self.held_out))
        return {f"{side}.{part}": array for side, rows in sides for part, array in of(rows).items()}

    @property
    def counts(self) -> dict[str, Any]:
        """How many of each, and the first bad ones by name."""
        found: dict[str, Any] = {"train_rows": len(self.train), "held_out_rows": len(self.held_out)}
        return found | ({"refused_rows": len(self.refused), "refused": self.refused[:NAMED]} if self.refused else {})


def read_rows(path: str, parse: Parse, held_out: float, least: int = 2) -> Rows:
    """The rows of a JSONL file, each parsed; blank lines are passed over.

    Args:
        parse: makes a row of an object, with a ``key`` that decides its side: rows of one key are never on both.
            Raises ``BadRowError`` with what is wrong.
        held_out: share of the rows to keep out of training, 0 to 1.
        least: rows that either side must have.

    Raises:
        BadInputError: the file cannot be read, or too few of its rows are good; the message names the first bad ones.
    """
    with opened(path) as file:
        body = file.read()
    sides: dict[bool, list[Row]] = {False: [], True: []}
    refused = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = _object(line)
            parsed = parse(row)
            sides[_on_held_out_side(row, str(parsed["key"]), held_out)].append(parsed)
        except BadRowError as error:
            refused.append(f"line {number}: {error}")
    found = Rows(sides[False], sides[True], hashlib.sha256(body).hexdigest(), refused)
    if refused:
        log_event("train", "rows_refused", path=path, count=len(refused), first=refused[:NAMED])
    if min(len(found.train), len(found.held_out)) < least:
        why = f"; {len(refused)} were refused: {'; '.join(refused[:NAMED])}" if refused else ""
        raise BadInputError(
            f"{path} has {len(found.train)} rows to train on and {len(found.held_out)} held out, and each side needs "
            f"{least}{why}", path=path,
        )  # fmt: skip
    return found


def opened(path: str) -> BinaryIO:
    """A file that somebody hands in, open for reading.

    Raises:
        BadInputError: there is no such file, or it may not be read.
    """
    try:
        return Path(path).expanduser().open("rb")
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}", path=path) from error


def text_of(row: Mapping[str, Any], name: str, optional: bool = False) -> str:
    """A field that must be a text.

    Raises:
        BadRowError: it is missing, empty, too long, not a text, or not Unicode.
    """
    value = row.get(name)
    if value is None and optional:
        return ""
    return checked_text(value, name)


def checked_text(value: Any, name: str) -> str:
    """The value, if it is a text; ``name`` says what it is.

    Raises:
        BadRowError: as ``text_of``.
    """
    if value is None:
        raise BadRowError(f"there is no {name}")
    if not isinstance(value, str) or not value.strip():
        raise BadRowError(f"{name} is not a text" if not isinstance(value, str) else f"{name} is empty")
    if len(value) > MAX_CHARS:
        raise BadRowError(f"{name} has {len(value)} characters, more than {MAX_CHARS}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"{name} holds half a surrogate pair") from None
    return value


def texts_of(row: Mapping[str, Any], name: str) -> list[str]:
    """A field that may be missing, or must be a list of texts.

    Raises:
        BadRowError: it is something else.
    """
    value = row.get(name) or []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRowError(f"{name} is not a list of texts")
    return [checked_text(one, f"{name}[{place}]") for place, one in enumerate(value)]


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRowError("it is no JSON") from None
    if not isinstance(row, dict):
        raise BadRowError("it is no JSON object")
    return row


def _on_held_out_side(row: Mapping[str, Any], key: str, share: float) -> bool:
    split = row.get("split")
    if split is None:
        return is_held_out(key, share)
    if split not in ("train", "test", "held_out"):
        raise BadRowError(f"split is {split!r}, and must be train or test")
    return split != "train"
