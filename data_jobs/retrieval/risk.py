"""The promised risk of an index: from which confidence on at most so many of the given answers are unsupported.

Held-out questions, made of the corpus when its index is built, are searched and read as in the service; for each is
known whether an answer would be supported. The share of unsupported ones among the answers given at a threshold is then
bounded by Clopper and Pearson's (1934) upper confidence limit, and the thresholds are tested from the strictest down
until one fails (fixed sequence testing as in Learn then Test: Angelopoulos, Bates, Candes, Jordan and Lei 2021, for
the selective risk of Geifman and El-Yaniv 2017). The last one that passed keeps the risk with the stated confidence,
however many were tried, for questions like those: half of which the corpus answers. It says nothing of questions that
differ from them in kind.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cluster.core.errors import IntegrityError
from data_jobs.retrieval.support import UNREAD

RISK_FILE, PLOT_FILE = "risk.json", "risk.png"
FORMAT = 1
CONFIDENCE = 0.95
GRID = tuple(round(1 - 0.01 * step, 2) for step in range(1, 96))  # 0.99 down to 0.05
BINS = 10


@dataclass(frozen=True)
class Judged:
    """One held-out question.

    Attributes:
        kind: how it was made (``indexing.held_out``).
        answerable: whether the corpus answers it.
        confidence: that it can be answered, as the service would say.
        supported: whether an answer to it would be: it is answerable, and from what was found.
    """

    kind: str
    answerable: bool
    confidence: float
    supported: bool


@dataclass(frozen=True)
class Point:
    """What happens at one threshold: ``answered`` questions, how many of these unsupported, the upper bound of that
    share, and ``coverage``, the share of the answerable questions that are answered with support."""

    threshold: float
    answered: int
    unsupported: int
    bound: float
    coverage: float


@dataclass(frozen=True)
class Promise:
    """A threshold that keeps ``max_risk`` with ``CONFIDENCE``, and what was counted there."""

    max_risk: float
    point: Point

    @property
    def threshold(self) -> float:
        """The least confidence of an answer."""
        return self.point.threshold


@dataclass(frozen=True)
class Evidence:
    """What is known of an index's risk.

    Attributes:
        reader: fingerprint of the reader that read; with another one the confidences mean something else.
        documents: how many documents the index had.
        judged: the held-out questions.
        carried_from: the version of the index that it was gathered on, where that is an earlier one.
    """

    reader: str
    documents: int
    judged: tuple[Judged, ...]
    carried_from: str = ""

    @cached_property
    def curve(self) -> tuple[Point, ...]:
        """The points of all thresholds of ``GRID``, the strictest first."""
        answerable = sum(one.answerable for one in self.judged)
        sure = np.array([one.confidence for one in self.judged])
        right = np.array([one.supported for one in self.judged], dtype=bool)
        points = []
        for threshold in GRID:
            given = sure >= threshold
            answered, supported = int(given.sum()), int((given & right).sum())
            bound = upper_bound(answered - supported, answered)
            covered = supported / answerable if answerable else 0.0
            points.append(Point(threshold, answered, answered - supported, bound, covered))
        return tuple(points)

    def promise(self, max_risk: float, reader: str | None = None, least: float = UNREAD) -> Promise | None:
        """The lowest threshold that keeps the risk, of those of ``least`` and more: people's questions are harder to
        tell than those that rules make. None where none does, or it was gathered with another ``reader``.

        Testing begins at the first threshold with as many answers as the promise needs at least, or as half of the
        answerable questions are, if that is more: with fewer, one unlucky answer would end it.
        """
        if reader is not None and reader != self.reader:
            return None
        enough = max(least_answers(max_risk), sum(one.answerable for one in self.judged) // 2)
        kept: Promise | None = None
        for point in self.curve:
            if point.answered < enough:
                continue
            if point.bound > max_risk or point.threshold < least:
                break
            kept = Promise(max_risk, point)
        return kept

    def said(self, max_risk: float) -> str:
        """For people: what is promised, or why nothing is."""
        share = f"{max_risk:.0%}"
        if found := self.promise(max_risk):
            at = found.point
            return (
                f"at most {share} of the answers that are read first are unsupported ({CONFIDENCE:.0%} confidence)"
                f": {at.unsupported} of {at.answered} at confidence {at.threshold:.2f} and above, upper bound "
                f"{at.bound:.1%}"
            )
        needed = least_answers(max_risk)
        if sum(one.supported for one in self.judged) < needed:
            return (
                f"nothing: {len(self.judged)} held-out questions are too little evidence (to promise {share} takes "
                f"{needed} answers without a fault); a careful threshold is used"
            )
        best = min(self.curve, key=lambda point: point.bound)
        return (
            f"nothing: no threshold keeps {share} on the held-out questions (best: {best.unsupported} of "
            f"{best.answered} unsupported at {best.threshold:.2f}); a careful threshold is used"
        )

    @cached_property
    def bins(self) -> tuple[dict[str, float], ...]:
        """Reliability: per tenth of confidence that has questions, how sure the service was and how often rightly."""
        found = []
        for number in range(BINS):
            own = [one for one in self.judged if min(BINS - 1, int(one.confidence * BINS)) == number]
            if own:
                sure, right = sum(one.confidence for one in own), sum(one.supported for one in own)
                found.append({"from": number / BINS, "questions": len(own), "confidence": round(sure / len(own), 4),
                              "supported": round(right / len(own), 4)})  # fmt: skip
        return tuple(found)

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of ``bins`` from the diagonal, by their questions."""
        apart = sum(b["questions"] * abs(b["confidence"] - b["supported"]) for b in self.bins)
        return round(apart / len(self.judged), 4) if self.judged else 0.0

    def to_dict(self, max_risk: float) -> dict[str, Any]:
        """For ``RISK_FILE``: the evidence, and what follows from it for ``max_risk``."""
        promised = self.promise(max_risk)
        return {
            "format": FORMAT,
            "reader": self.reader,
            "documents": self.documents,
            "questions": len(self.judged),
            "kinds": dict(sorted(Counter(one.kind for one in self.judged).items())),
            "carried_from": self.carried_from,
            "confidence": CONFIDENCE,
            "max_risk": max_risk,
            "promise": asdict(promised.point) if promised else None,
            "evidence": self.said(max_risk),
            "ece": self.ece,
            "reliability": list(self.bins),
            "curve": [asdict(point) for point in self.curve],
            "judged": [asdict(one) for one in self.judged],
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Out of what ``to_dict`` made; what follows from the evidence is derived anew."""
        judged = tuple(Judged(**one) for one in row["judged"])
        return cls(row["reader"], int(row["documents"]), judged, row.get("carried_from", ""))


def read_evidence(folder: Path) -> Evidence | None:
    """The evidence in the folder of an index; None where it was built without.

    Raises:
        IntegrityError: the file is of another format.
    """
    path = folder / RISK_FILE
    if not path.is_file():
        return None
    row = json.loads(path.read_text(encoding="utf-8"))
    if row.get("format") != FORMAT:
        raise IntegrityError(f"{path} has a format that this program does not read: build the index anew")
    return Evidence.from_dict(row)


def write_evidence(evidence: Evidence, max_risk: float, folder: Path) -> None:
    """Put it into the folder of an index that is being made."""
    body = json.dumps(evidence.to_dict(max_risk), indent=1, sort_keys=True)
    (folder / RISK_FILE).write_text(body + "\n", encoding="utf-8")


def carried(evidence: Evidence, version: str) -> Evidence:
    """The evidence of version ``version`` as that of the next one, which differs in a few documents."""
    return evidence if evidence.carried_from else replace(evidence, carried_from=version)


def upper_bound(hits: int, total: int, confidence: float = CONFIDENCE) -> float:
    """Clopper and Pearson's one-sided upper limit of a binomial rate; 1 where nothing was counted."""
    from scipy.special import betaincinv

    return 1.0 if hits >= total else round(float(betaincinv(hits + 1, total - hits, confidence)), 6)


def least_answers(max_risk: float, confidence: float = CONFIDENCE) -> int:
    """How many answers without a fault it takes to promise a risk."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - max_risk))
