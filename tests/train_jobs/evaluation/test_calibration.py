"""Calibration of logits whose truth is known, and groups whose gap is."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.core.errors import BadInputError
from train_jobs.evaluation.calibration import calibration, fit_temperature, reliability_diagram
from train_jobs.evaluation.slices import by_slice, report


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from exactly their probabilities."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (odds.cumsum(axis=1) < rng.random((len(odds), 1))).sum(axis=1)
    return logits, labels


def test_true_probabilities_are_calibrated_and_sharpened_ones_are_not(drawn) -> None:
    logits, labels = drawn
    assert calibration(logits, labels).ece < 0.015
    sharp = calibration(3 * logits, labels)
    assert sharp.ece > 0.1
    assert sum(one.n for one in sharp.bins) == sharp.n == 20_000
    assert sharp.accuracy == calibration(logits, labels).accuracy, "a temperature changes no answer"


def test_a_temperature_fitted_on_one_half_repairs_the_other(drawn) -> None:
    logits, labels = drawn
    wrong, half = 3 * logits, 10_000
    temperature = fit_temperature(wrong[:half], labels[:half])
    assert temperature == pytest.approx(3.0, rel=0.05)
    before, after = calibration(wrong[half:], labels[half:]), calibration(wrong[half:], labels[half:], temperature)
    assert after.ece < 0.2 * before.ece
    assert after.nll < before.nll
    assert reliability_diagram(before, after).startswith(b"\x89PNG")


def test_what_is_no_logits_is_refused() -> None:
    for logits, labels in (
        (np.zeros((0, 2)), np.zeros(0, dtype=int)), (np.zeros((3, 2)), np.array([0, 1, 2])),
        (np.full((2, 2), np.nan), np.array([0, 1])), (np.zeros((3, 2)), np.array([0, 1])),
    ):  # fmt: skip
        with pytest.raises(BadInputError):
            calibration(logits, labels)


def test_the_largest_gap_is_between_groups_that_are_large_enough() -> None:
    rng = np.random.default_rng(1)
    groups = ["en"] * 300 + ["de"] * 300 + ["tiny"] * 3
    scores = [*(rng.random(300) < 0.8), *(rng.random(300) < 0.6), 0.0, 0.0, 0.0]
    slices, gap = by_slice(scores, groups)
    assert [one.name for one in slices] == ["tiny", "de", "en"]
    assert (gap.best, gap.worst) == ("en", "de")
    assert gap.low < 0.2 < gap.high
    assert gap.low > 0, "this gap is no noise"
    same = by_slice([*(rng.random(300) < 0.7), *(rng.random(300) < 0.7)], ["a"] * 300 + ["b"] * 300)[1]
    assert same.low <= 0.02
    assert report(scores[-3:], groups[-3:])["gap"]["gap"] == 0.0
