"""How well the redactor finds personal data: precision, recall and F1 over characters, type by type.

The data are .jsonl rows ``{"text", "spans": [{"type", "start", "end"}], "template_id"}``. Rows of one template are
alike, so halves are made of whole templates: even ones (``tune``) were looked at while rules were written, odd ones
(``report``) only counted.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError
from data_jobs.pii import TYPES, NameFinder, find

# What other data sets call our types. Labels that are not here are listed, and counted as nobody's.
LABELS = {
    **{kind: kind for kind in TYPES},
    "EMAIL_ADDRESS": "EMAIL", "PHONE_NUMBER": "PHONE", "CREDIT_CARD": "CARD", "CREDIT_CARD_NUMBER": "CARD",
    "IBAN_CODE": "IBAN", "US_SSN": "SSN", "IP_ADDRESS": "IP", "IPV4": "IP", "IPV6": "IP", "DOMAIN_NAME": "URL",
    "STREET_ADDRESS": "ADDRESS", "LOCATION_ADDRESS": "ADDRESS", "US_DRIVER_LICENSE": "NATIONAL_ID",
    "US_PASSPORT": "NATIONAL_ID", "UK_NINO": "NATIONAL_ID", "UK_NHS": "NATIONAL_ID", "US_ITIN": "NATIONAL_ID",
    "ES_NIF": "NATIONAL_ID", "IT_FISCAL_CODE": "NATIONAL_ID", "PASSWORD": "SECRET", "API_KEY": "SECRET",
    "CREDENTIAL": "SECRET", "PERSON_NAME": "PERSON", "NAME": "PERSON",
}  # fmt: skip
CORE = ("EMAIL", "PHONE", "CARD", "IBAN", "IP", "URL", "SSN", "SECRET")
"""Types that rules can find; names and addresses are what a model is for."""


@dataclass
class Score:
    """Characters: ``gold`` in the data, ``found`` by the redactor, ``right`` both."""

    gold: int = 0
    found: int = 0
    right: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.gold + other.gold, self.found + other.found, self.right + other.right)

    @property
    def precision(self) -> float | None:
        """Share of the characters found that are personal data, 0 to 1; None where nothing was found."""
        return self.right / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """Share of the personal data's characters that were found, 0 to 1; None where the data hold none."""
        return self.right / self.gold if self.gold else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 0 to 1; None where the data hold nothing and nothing was found."""
        return 2 * self.right / (self.gold + self.found) if self.gold + self.found else None

    def to_dict(self) -> dict[str, Any]:
        """The three counts and the three measures for JSON; a measure that is not defined is None."""
        return {**vars(self), "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class PiiResult:
    """``splits[half][type]``, with the sums ``core``, ``all`` (every type of ours) and ``all+names`` (as ``all``, were
    every name of a person found and nothing else taken for one: what the best name model could reach)."""

    data: str
    rows: int
    splits: dict[str, dict[str, Score]]
    unmapped: dict[str, int]
    name_model: str

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values for JSON, with the name of the suite and the types that ``core`` sums."""
        tables = {half: {name: score.to_dict() for name, score in t.items()} for half, t in self.splits.items()}
        return {"suite": "pii", "data": self.data, "rows": self.rows, "splits": tables, "unmapped": self.unmapped,
                "name_model": self.name_model, "core": list(CORE)}  # fmt: skip

    def lines(self) -> list[tuple[str, ...]]:
        """Lines of a table: half, type, precision, recall, F1, characters in the data, found."""
        return [
            (half, name, _rate(s.precision), _rate(s.recall), _rate(s.f1), str(s.gold), str(s.found))
            for half, table in self.splits.items()
            for name, s in table.items()
            if s.gold or s.found
        ]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file, or of all such files of a folder.

    Raises:
        BadInputError: no such file, or a row that has not the form.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    rows = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"cannot read {file}: {error}") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                spans = [(str(s["type"]), int(s["start"]), int(s["end"])) for s in row["spans"]]
                rows.append({"text": str(row["text"]), "spans": spans, "template": row.get("template_id")})
            except (ValueError, KeyError, TypeError) as error:
                raise BadInputError(
                    f"{file}:{number}: no row with text and spans[type, start, end]: {error}"
                ) from error
    if not rows:
        raise BadInputError(f"{path} holds no .jsonl rows with text and spans")
    return rows


def half_of(row: dict[str, Any]) -> str:
    """``tune`` for even templates, ``report`` for odd ones; rows without a template by a hash of their text."""
    template = row["template"]
    number = template if isinstance(template, int) else zlib.crc32(str(template or row["text"]).encode())
    return "report" if number % 2 else "tune"


def score_pii(
    path: Path, names: NameFinder | None = None, name_model: str = "", on_row: Callable[[int], None] | None = None
) -> PiiResult:
    """Run the redactor over every row and count characters.

    Args:
        names: finds persons; without it their recall is 0.
        on_row: called with the number of rows after each: progress.

    Raises:
        BadInputError: as ``read_rows``.
    """
    rows = read_rows(path)
    halves: dict[str, dict[str, Score]] = {half: {kind: Score() for kind in TYPES} for half in ("tune", "report")}
    unmapped: Counter[str] = Counter()
    for row in rows:
        unmapped.update(label for label, _, _ in row["spans"] if label not in LABELS)
        table = halves[half_of(row)]
        for kind, score in _score_row(row, names).items():
            table[kind] += score
        if on_row:
            on_row(len(rows))
    splits = {half: {**table, **_sums(table)} for half, table in halves.items()}
    return PiiResult(str(path), len(rows), splits, dict(unmapped.most_common()), name_model)


def _score_row(row: dict[str, Any], names: NameFinder | None) -> dict[str, Score]:
    gold: dict[str, set[int]] = {}
    found: dict[str, set[int]] = {}
    for label, start, end in row["spans"]:
        if label in LABELS:
            gold.setdefault(LABELS[label], set()).update(range(start, end))
    for finding in find(row["text"], TYPES, names):
        found.setdefault(finding.type, set()).update(range(finding.start, finding.end))
    none: set[int] = set()
    pairs = {kind: (gold.get(kind, none), found.get(kind, none)) for kind in {*gold, *found}}
    return {kind: Score(len(right), len(got), len(right & got)) for kind, (right, got) in pairs.items()}


def _sums(table: dict[str, Score]) -> dict[str, Score]:
    def total(kinds: Iterable[str]) -> Score:
        return sum((table[kind] for kind in kinds), Score())

    persons = Score(*(table["PERSON"].gold,) * 3)
    others: Sequence[str] = [kind for kind in TYPES if kind != "PERSON"]
    return {"core": total(CORE), "all": total(TYPES), "all+names": total(others) + persons}
