"""Scores that mean what they say: temperature, calibration error, and thresholds at a rate of false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
BINS = 15
FALSE_ALARMS = 0.05


def probabilities(scores: Scores, temperature: float = 1.0) -> Scores:
    """The softmax of scores [n, labels], divided by a temperature."""
    shifted = (scores - scores.max(axis=1, keepdims=True)) / temperature
    grown = np.exp(shifted)
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def fit_temperature(scores: Scores, labels: Labels) -> float:
    """The temperature in [0.05, 20] under which the labels are least surprising (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    def surprise(logarithm: float) -> float:
        found = probabilities(scores, float(np.exp(logarithm)))[np.arange(len(labels)), labels]
        return float(-np.log(found.clip(1e-12)).mean())

    return float(np.exp(minimize_scalar(surprise, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def calibration_error(found: Scores, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error: how far the confidence of the likeliest label is from how often it is right, over
    bins of equal width, weighted by rows."""
    return expected_error(reliability(found.max(axis=1), found.argmax(axis=1) == labels, bins))


def reliability(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int = BINS
) -> list[dict[str, float]]:
    """A reliability diagram: of each bin of equal width that holds any, from ``low`` up, ``n``, the mean ``confidence``
    and the share that is ``right``."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {"low": place / bins, "n": int(inside.sum()), "confidence": float(confidence[inside].mean()),
         "right": float(right[inside].mean())}
        for place in range(bins)
        if (inside := places == place).any()
    ]  # fmt: skip


def expected_error(diagram: list[dict[str, float]]) -> float:
    """Expected calibration error of a reliability diagram."""
    rows = sum(one["n"] for one in diagram)
    return sum(abs(one["confidence"] - one["right"]) * one["n"] / rows for one in diagram)


def threshold_at(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], rate: float = FALSE_ALARMS) -> float:
    """The lowest threshold that at most ``rate`` of the negatives reach (a score counts from the threshold up)."""
    negatives = np.sort(scores[~positive])[::-1]
    allowed = int(rate * len(negatives))
    return float(np.nextafter(negatives[allowed], np.inf)) if allowed < len(negatives) else 0.0


def report(scores: Scores, labels: Labels, names: list[str]) -> dict[str, Any]:
    """What is known of a classifier from held-out scores [n, labels].

    Temperature and thresholds are those of all rows. What is said about them is cross-fitted: each half is judged with
    what was fitted on the other.

    Returns:
        temperature, rows, accuracy, ece, ece_uncalibrated; by label: rows, auc, threshold (a probability), fpr, fnr and
        tpr at it, and ``tpr_at_fpr``, read off the rows themselves. Figures that need rows of both kinds are None.
    """
    half = np.arange(len(labels)) % 2 == 0
    judged = np.zeros_like(scores)
    for mine in (half, ~half):
        judged[mine] = probabilities(scores[mine], fit_temperature(scores[~mine], labels[~mine]))
    temperature = fit_temperature(scores, labels)
    found = probabilities(scores, temperature)
    return {
        "temperature": round(temperature, 4), "rows": len(labels),
        "accuracy": round(float((scores.argmax(axis=1) == labels).mean()), 4),
        "ece": round(calibration_error(judged, labels), 4),
        "ece_uncalibrated": round(calibration_error(probabilities(scores), labels), 4),
        "labels": {name: _one(found, judged, labels == n, half, n) for n, name in enumerate(names)},
    }  # fmt: skip


def _one(
    found: Scores, judged: Scores, positive: npt.NDArray[np.bool_], half: npt.NDArray[np.bool_], label: int
) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    known: dict[str, Any] = {"rows": int(positive.sum())}
    if all(part.any() and not part.all() for part in (positive[half], positive[~half])):
        own = found[:, label]
        flagged = np.zeros(len(positive), dtype=bool)
        for mine in (half, ~half):
            flagged[mine] = judged[mine, label] >= threshold_at(judged[~mine, label], positive[~mine])
        overall = threshold_at(own, positive)
        known |= {
            "auc": float(roc_auc_score(positive, own)), "threshold": overall,
            "fpr": float(flagged[~positive].mean()), "fnr": float(1 - flagged[positive].mean()),
            "tpr_at_fpr": float((own[positive] >= overall).mean()),
        }  # fmt: skip
    return {name: round(value, 4) if name != "threshold" else value for name, value in known.items()}
