"""What a router of two tiers is worth: cost-quality curve, APGR, calls for a quality, intervals over subjects.

Figures are those of RouteLLM (Ong et al. 2024, arXiv 2406.18665). The *cost* c of a router is the share of the
questions that it sends to the larger tier, ``r`` the mean quality of its answers. The performance gap recovered is
``PGR(c) = (r(c) - r_small) / (r_large - r_small)``, and APGR its integral over c from 0 to 1: .5 is what chance gets.
Here it is integrated over every cost that the rows allow; of questions of equal difficulty chance takes as many as a
cost allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000
COSTS = tuple(round(0.05 * step, 2) for step in range(21))
QUALITIES = (0.5, 0.8)  # shares of the gap whose cost is told, RouteLLM's CPT


@dataclass(frozen=True)
class Outcomes:
    """What both tiers made of the same questions.

    Attributes:
        small, large: quality of their answers, float64 [n] in [0, 1] (0 and 1 where an answer is right or wrong).
        subjects: what each question is about, text [n].
    """

    small: Floats
    large: Floats
    subjects: npt.NDArray[np.str_]

    @property
    def suffices(self) -> npt.NDArray[np.bool_]:
        """Whether the small tier's answer is as good as the large one's."""
        return self.large <= self.small

    @property
    def gap(self) -> float:
        """By how much the larger tier is better in the mean."""
        return float((self.large - self.small).mean())

    def of(self, chosen: npt.NDArray[Any]) -> Outcomes:
        """Those of some questions (a mask, or places)."""
        return Outcomes(self.small[chosen], self.large[chosen], self.subjects[chosen])


@dataclass(frozen=True)
class Curve:
    """Costs (rising, from 0 to 1) and the mean quality at each of them."""

    cost: Floats
    quality: Floats

    @property
    def recovered(self) -> Floats:
        """The performance gap recovered at each cost; what it is where there is no gap means nothing."""
        return (self.quality - self.quality[0]) / (self.quality[-1] - self.quality[0])

    @property
    def apgr(self) -> float:
        """The area under ``recovered``."""
        return float(np.trapezoid(self.recovered, self.cost))

    def at(self, cost: float) -> float:
        """The quality at one cost."""
        return float(np.interp(cost, self.cost, self.quality))

    def cost_of(self, recovered: float) -> float | None:
        """The lowest cost at which that share of the gap is recovered (RouteLLM's CPT)."""
        there = np.flatnonzero(self.recovered >= recovered)
        if not len(there):
            return None
        place = int(there[0])
        if not place:
            return 0.0
        pair = slice(place - 1, place + 1)
        return float(np.interp(recovered, self.recovered[pair], self.cost[pair]))


def curve(difficulty: Floats, outcomes: Outcomes, weights: Floats | None = None) -> Curve:
    """The curve of a router that sends the most difficult questions to the larger tier first.

    Args:
        difficulty: float [n]; only its order counts.
        weights: how often each question counts; None: once.
    """
    counted = np.ones(len(difficulty)) if weights is None else weights
    order = np.argsort(-difficulty, kind="stable")
    ranked = difficulty[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each run of equals
    gained = np.cumsum((counted * (outcomes.large - outcomes.small))[order])[last]
    sent = np.cumsum(counted[order])[last]
    total = counted.sum()
    begins = float((counted * outcomes.small).sum() / total)
    return Curve(np.concatenate([[0.0], sent / total]), begins + np.concatenate([[0.0], gained / total]))


def resampled(outcomes: Outcomes, times: int = RESAMPLES, seed: int = 0) -> Floats:
    """Weights [times, n] of a bootstrap over subjects, not over questions: those of one subject are alike, and another
    sample of the world would hold other subjects."""
    names, place = np.unique(outcomes.subjects, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=times)
    return drawn[:, place].astype(np.float64)


def compared(
    difficulty: Floats, baselines: dict[str, Floats], outcomes: Outcomes, times: int = RESAMPLES
) -> dict[str, Any]:
    """A router beside others on the same questions, each with its 95 % interval over subjects.

    Args:
        difficulty: of the router, [n]; baselines: of others, by name. ``random`` is .5, by definition.

    Returns:
        ``apgr`` by name (``router`` and the baselines), ``difference`` of the router to each: ``value``, ``low``,
        ``high``; ``resamples``, how many of the resampled sets of subjects had a gap to recover.
    """
    routers = {"router": difficulty, **baselines}
    weights = [w for w in resampled(outcomes, times) if (w * (outcomes.large - outcomes.small)).sum() > 0]
    drawn = {name: np.array([curve(own, outcomes, w).apgr for w in weights]) for name, own in routers.items()}
    value = {name: curve(own, outcomes).apgr for name, own in routers.items()}
    return {
        "apgr": {name: _interval(value[name], drawn[name]) for name in routers},
        "difference": {
            "random": _interval(value["router"] - 0.5, drawn["router"] - 0.5),
            **{name: _interval(value["router"] - value[name], drawn["router"] - drawn[name]) for name in baselines},
        },
        "resamples": len(weights),
    }


def table(found: Curve) -> list[dict[str, float]]:
    """The curve at ``COSTS``: ``cost``, ``quality``, ``recovered``, and the quality of chance at the same cost."""
    begins, ends = float(found.quality[0]), float(found.quality[-1])
    return [
        {"cost": cost, "quality": round(found.at(cost), 4),
         "recovered": round(float(np.interp(cost, found.cost, found.recovered)), 4),
         "random": round(begins + cost * (ends - begins), 4)}
        for cost in COSTS
    ]  # fmt: skip


def thresholds(chosen_on: Floats, suffices: Floats, outcomes: Outcomes) -> list[dict[str, float]]:
    """For each cost in steps of a hundredth the threshold that has it, and what came of it elsewhere.

    Args:
        chosen_on: probabilities that the small tier suffices, of the questions that the thresholds are chosen on.
        suffices, outcomes: of the others.

    Returns:
        ``target`` cost, ``threshold`` (below it the larger tier is asked), ``cost`` and ``quality`` of the others.
    """
    ranked = np.sort(chosen_on)
    rows = []
    for step in range(101):
        place = round(step / 100 * len(ranked))
        # Between two questions that differ; none at all, and all, is promised for whatever comes.
        at = 0.0 if step == 0 else 1.0 if step == 100 else float((ranked[place - 1] + ranked[place]) / 2)
        sent = suffices < at
        quality = float(np.where(sent, outcomes.large, outcomes.small).mean())
        rows.append({"target": step / 100, "threshold": round(at, 6), "cost": round(float(sent.mean()), 4),
                     "quality": round(quality, 4)})  # fmt: skip
    return rows


def oracle(outcomes: Outcomes) -> Floats:
    """The difficulty that somebody would know who had seen both answers."""
    return outcomes.large - outcomes.small


def _interval(value: float, drawn: Floats) -> dict[str, float]:
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (float("nan"), float("nan"))
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}
