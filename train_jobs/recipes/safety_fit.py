"""Fitting a safety head and telling what it is worth on sets that it has not seen.

Each row is scored by a model that saw no row of its set. A style that a set has of its own, which a classifier finds
before it finds anything else, is then of no use to it; what is left is what carries over. What the encoder under the
heads learnt from chooses no threshold and gives no number. Where the rows that were handed in only judge, one model
scores them all, so that scores of different sets are on one scale.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.review.decisions import REVIEWED
from data_jobs.safety.head import BARS, BUSINESS, LOOK_ALIKE, Head, Measured
from train_jobs.recipes.rows import Row
from train_jobs.recipes.safety_rows import BENIGN, WRITTEN, unseen

STRENGTH, WRITTEN_STRENGTH = 10.0, 0.5  # of the logistic regression on unit vectors; where it learns from no other set
FOLDS = 5
DIGITS = 5
LEAST = 20  # benign rows of a set whose share counts for itself
# What of each slice a threshold may flag on the rows it is chosen on: below the bar, as others are looked at later.
ALLOWED = {BUSINESS: 0.02, LOOK_ALIKE: 0.04}
ALLOWED_SET = 0.04  # of the benign rows of any one set
Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fitted:
    """A head, and the report of it."""

    head: Head
    report: dict[str, Any]


def fit_head(category: str, rows: Sequence[Row], vectors: npt.ArrayLike, judge: bool = False) -> Fitted:
    """One head over the rows of its category and the benign ones.

    Args:
        vectors: of all rows, [n, d].
        judge: it learns from written rows and decisions of people alone; all others only judge.
    """
    from threadpoolctl import threadpool_limits

    chosen = np.array([row["label"] in (category, BENIGN) for row in rows])
    own = [row for row, wanted in zip(rows, chosen, strict=True) if wanted]
    found = np.asarray(vectors, dtype=np.float64)[chosen]
    labels = np.array([row["label"] == category for row in own])
    sets = np.array([row["set"] for row in own])
    strength = WRITTEN_STRENGTH if judge else STRENGTH
    taught = np.array([not judge or name.startswith((WRITTEN, REVIEWED)) for name in sets])
    with threadpool_limits(1):
        model = _model(strength).fit(found[taught], labels[taught])
        scores = np.asarray(model.decision_function(found))
        scores[taught] = _left_out(found[taught], labels[taught], sets[taught], strength)
        inside = _left_out(found, labels, np.arange(len(own)) % FOLDS, strength)
    fresh = np.array([unseen(name) for name in sets])
    judged = fresh & (np.array([not name.startswith(WRITTEN) for name in sets]) | ~labels)
    decided = np.array([name.startswith(REVIEWED) for name in sets])
    tuning = fresh & np.array([hashlib.sha256(row["text"].encode()).digest()[0] % 2 == 0 for row in own])
    threshold = _threshold(own, scores, labels, tuning)
    report = _report(own, scores, inside, labels, judged, tuning, threshold)
    report |= {"bar": asdict(BARS[category]), "across": across(scores > threshold, labels, ~tuning & judged & ~decided)}
    weights = tuple(round(float(weight), DIGITS) for weight in model.coef_[0])
    head = Head(weights, round(float(model.intercept_[0]), DIGITS), threshold, Measured(**report["measured"]))
    report["passed"] = BARS[category].reached(head.measured)
    return Fitted(head, report)


def across(flagged: Mask, labels: Mask, seen: Mask) -> dict[str, Any]:
    """The shares of rows missed and of rows flagged in vain (None: there are no such rows), of those ``seen``."""

    def share(found: Mask) -> float | None:
        return round(float(found.mean()), 4) if len(found) else None

    wanted, benign = seen & labels, seen & ~labels
    return {
        "positive": int(wanted.sum()), "benign": int(benign.sum()),
        "missed": share(~flagged[wanted]), "flagged": share(flagged[benign]),
    }  # fmt: skip


def auroc(scores: Scores, labels: Mask) -> float:
    """Area under the ROC curve; 0.5 where one side is empty."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else 0.5


def _model(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)


def _left_out(vectors: Scores, labels: Mask, groups: npt.NDArray[Any], strength: float) -> Scores:
    """Log-odds [n] of each row by a model that saw nothing of its group."""
    scores = np.zeros(len(labels))
    for group in np.unique(groups):
        out = groups == group
        scores[out] = _model(strength).fit(vectors[~out], labels[~out]).decision_function(vectors[out])
    return scores


def _threshold(rows: Sequence[Row], scores: Scores, labels: Mask, tuning: Mask) -> float:
    """The least log-odds at which of no slice or set more is flagged than is allowed, on the half for choosing."""
    found = [float(np.quantile(scores[tuning & ~labels], 0.95))]
    for name, share in ALLOWED.items():
        own = tuning & np.array([row["slice"] == name for row in rows])
        if own.any():
            found.append(float(np.quantile(scores[own], 1 - share, method="higher")))
    for own in _handed_in(rows, tuning & ~labels):
        found.append(float(np.quantile(scores[own], 1 - ALLOWED_SET, method="higher")))
    return math.ceil(max(found) * 10**DIGITS) / 10**DIGITS  # up: what scores as much is not flagged


def _handed_in(rows: Sequence[Row], which: Mask) -> list[Mask]:
    """Of each set that was handed in, those rows of ``which``, where they are enough to be counted for themselves."""
    sets = np.array([row["set"] for row in rows])
    names = [name for name in np.unique(sets) if not name.startswith((WRITTEN, REVIEWED))]
    return [own for name in names if (own := which & (sets == name)).sum() >= LEAST]


def _report(
    rows: Sequence[Row], scores: Scores, inside: Scores, labels: Mask, judged: Mask, tuning: Mask, threshold: float
) -> dict[str, Any]:
    """Numbers across sets on the half that no threshold was chosen on, and within sets for comparison."""
    sets = np.array([row["set"] for row in rows])
    slices = np.array([row["slice"] for row in rows])
    flagged, seen = scores > threshold, ~tuning & judged

    def share(which: Mask) -> float:
        return round(float(flagged[which].mean()), 4) if which.any() else 0.0

    sides = (("positive", labels), (BENIGN, ~labels))
    by_set = {
        str(name): {
            side: {"rows": int((own & (sets == name)).sum()), "flagged": share(own & (sets == name))}
            for side, own in sides
            if (own & (sets == name)).any()
        }
        for name in np.unique(sets)
    }
    measured = {
        "auroc": round(auroc(scores[seen], labels[seen]), 4), "recall": share(seen & labels),
        "business": share(seen & (slices == BUSINESS)), "look_alike": share(seen & (slices == LOOK_ALIKE)),
        "worst_set": max(map(share, _handed_in(rows, seen & ~labels)), default=0.0),
    }  # fmt: skip
    hits = flagged[seen]
    return {
        "measured": measured, "threshold": threshold,
        "precision": round(float(labels[seen][hits].mean()), 4) if hits.any() else 0.0,
        "in_domain": {"auroc": round(auroc(inside, labels), 4)},
        "by_set": by_set, "curve": curve(scores[seen], labels[seen], slices[seen]),
    }  # fmt: skip


def curve(scores: Scores, labels: Mask, slices: npt.NDArray[np.str_]) -> list[dict[str, float]]:
    """Recall and over-blocking at 20 thresholds, from the strictest."""
    points = np.quantile(scores, np.linspace(0.999, 0.4, 20))
    return [
        {
            "threshold": round(float(point), 3), "recall": round(float((scores[labels] > point).mean()), 4),
            **{f"flagged_{name}": round(float((scores[slices == name] > point).mean()), 4)
               for name in ALLOWED if (slices == name).any()},
        }
        for point in points
    ]  # fmt: skip
