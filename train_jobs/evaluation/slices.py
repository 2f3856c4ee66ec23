"""An evaluation cut by groups (language, kind of document, source): each group's mean, and the largest gap between two.

A gap of few cases is noise, so groups below a size are told but not compared, and the gap has an interval: a bootstrap
over cases within their groups, in which the two groups of the gap stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FEWEST = 20
RESAMPLES = 1000


@dataclass(frozen=True)
class Slice:
    """One group: its cases, their mean score with a 95 % interval, and whether there are enough to compare."""

    name: str
    n: int
    mean: float
    low: float
    high: float
    compared: bool


@dataclass(frozen=True)
class Gap:
    """The best group's mean less the worst's, with its 95 % interval; 0 and no names where fewer than two compare."""

    best: str
    worst: str
    gap: float
    low: float
    high: float


def by_slice(
    scores: Sequence[float], groups: Sequence[str], fewest: int = FEWEST, seed: int = 0
) -> tuple[tuple[Slice, ...], Gap]:
    """Means of scores by group, worst first, and the largest gap.

    Args:
        scores: of each case. groups: of each case. fewest: cases that a group needs to be compared.
    """
    rng = np.random.default_rng(seed)
    values, names = np.asarray(scores, dtype=np.float64), np.asarray(groups)
    slices, draws = [], {}
    for name in sorted(set(groups)):
        mine = values[names == name]
        drawn = mine[rng.integers(0, len(mine), (RESAMPLES, len(mine)))].mean(axis=1)
        low, high = (float(v) for v in np.quantile(drawn, (0.025, 0.975)))
        slices.append(Slice(name, len(mine), float(mine.mean()), low, high, len(mine) >= fewest))
        draws[name] = drawn
    slices.sort(key=lambda one: (one.mean, one.name))
    compared = [one for one in slices if one.compared]
    if len(compared) < 2:
        return tuple(slices), Gap("", "", 0.0, 0.0, 0.0)
    worst, best = compared[0], compared[-1]
    low, high = np.quantile(draws[best.name] - draws[worst.name], (0.025, 0.975))
    return tuple(slices), Gap(best.name, worst.name, best.mean - worst.mean, float(low), float(high))


def report(scores: Sequence[float], groups: Sequence[str], fewest: int = FEWEST) -> dict[str, Any]:
    """``{"slices": [...], "gap": {...}}`` for an evaluation's report; a gate reads ``gap.gap`` and ``gap.low``."""
    slices, gap = by_slice(scores, groups, fewest)
    return {"slices": [asdict(one) for one in slices], "gap": asdict(gap)}
