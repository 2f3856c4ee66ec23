"""Personal data as people type it and as somebody who evades a filter does, and ordinary texts: the shipped ``pii``.

Each case is one text with what must be hidden marked ``⟦so⟧`` and invented: numbers that countries reserve for fiction,
published test numbers of cards and accounts, credentials made up while the cases are read (``‹a36›``: 36 letters and
digits), so that no scanner finds one in the file. Cases of the half ``tune``, by a hash of their id, may be used to
write rules; those of ``report`` say how good the rules are.
"""

from __future__ import annotations

import json
import random
import re
import string
import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError
from data_jobs.pii import TYPES
from train_jobs.evaluation.metrics import Rate

CASES = Path(__file__).with_name("suites") / "pii" / "cases.jsonl"
NONE = "NONE"  # the kind of texts without personal data
HALVES = ("tune", "report")
ORDINARY, EVASION = "ordinary", "evasion"
_MARKED = re.compile("⟦(.*?)⟧", re.S)
_MADE = re.compile("‹([adhuwb])([0-9]+)›")
_ALPHABETS = {
    "a": string.ascii_letters + string.digits, "d": string.digits, "h": "0123456789abcdef",
    "u": string.ascii_uppercase + "234567", "w": string.ascii_letters + string.digits + "-_",
    "b": string.ascii_letters + string.digits + "+/",
}  # fmt: skip
_PLACEHOLDER = re.compile(rf"<(?:{'|'.join(TYPES)})_[0-9]+>")

Way = Callable[[str], str]
"""A text as it goes on, with placeholders for personal data."""


@dataclass(frozen=True)
class Case:
    """A text of which ``kept`` are the letters and digits that are nobody's, as ``skeleton`` writes them.

    ``kind`` is one of ``pii.TYPES``, or NONE; ``manner`` is ``ordinary`` or ``evasion``; ``transform`` says in words
    how the value is written.
    """

    id: str
    kind: str
    manner: str
    transform: str
    text: str
    kept: str

    @property
    def half(self) -> str:
        """``tune`` or ``report``, by a hash of the id."""
        return HALVES[zlib.crc32(self.id.encode()) % 2]


@dataclass(frozen=True)
class Outcome:
    """``right``: nothing of what was marked is left (or, without a mark, nothing was changed). ``beyond``: words beside
    it are gone as well."""

    case: Case
    right: bool
    beyond: bool
    redacted: str


@dataclass(frozen=True)
class CasesResult:
    """``outcomes[way]``: of all cases, in the order of the file."""

    outcomes: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)

    def rates(self) -> dict[str, dict[str, dict[str, dict[str, Rate]]]]:
        """``[way][half][kind][manner]``: the share caught. ``ALL`` sums the kinds, ``ALL_BUT_PERSON`` those that rules
        know; of NONE the share that was changed, manner ``changed``."""
        return {
            way: {half: _table([o for o in found if o.case.half == half]) for half in HALVES}
            for way, found in self.outcomes.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the rates with their intervals, and each case with what became of it."""
        rates = {
            way: {
                half: {kind: {m: rate.to_dict() for m, rate in row.items()} for kind, row in table.items()}
                for half, table in halves.items()
            }
            for way, halves in self.rates().items()
        }
        cases = [
            {"way": way, "id": o.case.id, "half": o.case.half, "kind": o.case.kind, "manner": o.case.manner,
             "transform": o.case.transform, "right": o.right, "beyond": o.beyond}
            for way, found in self.outcomes.items()
            for o in found
        ]  # fmt: skip
        return {"suite": "pii", "data": "shipped", "rates": rates, "cases": cases}

    def lines(self) -> list[tuple[str, ...]]:
        """Lines of a table: half, kind, manner, then one share with its interval for each way."""
        rates = self.rates()
        first = next(iter(rates.values()))
        return [
            (half, kind, manner, *(str(rates[way][half][kind][manner]) for way in rates))
            for half in HALVES
            for kind, row in first[half].items()
            for manner in row
        ]

    def misses(self) -> list[tuple[str, ...]]:
        """Of the half ``tune``, and of it alone: way, id, how it is written, and the text as it went on."""
        return [
            (way, o.case.id, f"{o.case.manner}, {o.case.transform}" if o.case.transform else "", o.redacted)
            for way, found in self.outcomes.items()
            for o in found
            if not o.right and o.case.half == "tune"
        ]


def _table(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Rate]]:
    def caught(kinds: Sequence[str]) -> dict[str, Rate]:
        return {
            manner: Rate.of(o.right for o in outcomes if o.case.kind in kinds and o.case.manner == manner)
            for manner in (ORDINARY, EVASION)
        }

    kinds = [kind for kind in TYPES if any(o.case.kind == kind for o in outcomes)]
    table = {kind: caught([kind]) for kind in kinds}
    table |= {"ALL": caught(kinds), "ALL_BUT_PERSON": caught([kind for kind in kinds if kind != "PERSON"])}
    return {**table, NONE: {"changed": Rate.of(not o.right for o in outcomes if o.case.kind == NONE)}}


def load_cases(path: Path = CASES) -> list[Case]:
    """The cases of a file in the shipped form, with their credentials made up.

    Raises:
        BadInputError: a row has not the form, or an id is there twice.
    """
    cases: dict[str, Case] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            case = _case(row["id"], row["kind"], row["manner"], row["transform"], row["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInputError(f"{path}:{number}: no case with id, kind, manner, transform, text: {error}") from error
        if case.id in cases:
            raise BadInputError(f"{path}:{number}: a second case {case.id}")
        cases[case.id] = case
    return list(cases.values())


def _case(name: str, kind: str, manner: str, transform: str, text: str) -> Case:
    if kind not in (*TYPES, NONE):
        raise ValueError(f"no kind {kind}")
    if (kind == NONE) != (_MARKED.search(text) is None):
        raise ValueError("a text has a mark if, and only if, it has a kind")
    chance = random.Random(name)  # noqa: S311 (credentials that open nothing)
    text = _MADE.sub(lambda match: _made(chance, match[1], int(match[2])), text)
    return Case(name, kind, manner, transform, _MARKED.sub(r"\1", text), skeleton(_MARKED.sub("", text)))


def _made(chance: random.Random, alphabet: str, size: int) -> str:
    """As a credential is: digits among the letters where the alphabet has both, no sign at its borders."""
    characters = _ALPHABETS[alphabet]
    while True:
        made = "".join(chance.choices(characters, k=size))
        mixed = characters.isdigit() or size < 12 or (any(map(str.isdigit, made)) and any(map(str.isalpha, made)))
        if mixed and (not made or (made[0].isalnum() and made[-1].isalnum())):
            return made


def skeleton(text: str) -> str:
    """Letters and digits only, in their compatibility form and lower case: what redaction must leave or take."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def judge(case: Case, redacted: str) -> Outcome:
    """What became of a case: its letters and digits after redaction are those not marked, in their order."""
    if case.kind == NONE:
        changed = _PLACEHOLDER.search(redacted) is not None
        return Outcome(case, not changed, changed, redacted)
    left = skeleton(_PLACEHOLDER.sub("", redacted))
    rest = iter(case.kept)
    return Outcome(case, all(c in rest for c in left), len(left) < len(case.kept), redacted)


def score_cases(
    ways: Mapping[str, Way], cases: Sequence[Case], on_case: Callable[[int], None] | None = None
) -> CasesResult:
    """Send every case every way.

    Args:
        ways: by their name; each takes a text as it was typed.
        on_case: called with the number of texts in all after each: progress.
    """
    outcomes: dict[str, list[Outcome]] = {}
    for name, way in ways.items():
        for case in cases:
            outcomes.setdefault(name, []).append(judge(case, way(case.text)))
            if on_case:
                on_case(len(ways) * len(cases))
    return CasesResult(outcomes)
