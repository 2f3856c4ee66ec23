"""The law found again in points made from one, and what it refuses to say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cluster.core.errors import BadInputError
from train_jobs.planning.capacity import effort, replicas_for
from train_jobs.planning.scaling import Point, fit


def true_loss(n: float, d: float) -> float:
    return 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28  # Hoffmann et al. 2022, table A3


def points(sizes, lengths, noise: float = 0.0, seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [
        Point(int(n), int(d), true_loss(n, d) * math.exp(rng.normal(0, noise)))
        for n in sizes
        for d in lengths
    ]  # fmt: skip


def test_a_grid_gives_back_its_law_and_predicts_beyond_it() -> None:
    law = fit(points((1e6, 4e6, 16e6, 64e6), (2e7, 1e8, 5e8)), bootstraps=4)
    assert law.form.name == "E + A/N^a + B/D^b"
    found = {name: value["value"] for name, value in law.coefficients().items()}
    assert found["a"] == pytest.approx(0.34, abs=0.02)
    assert found["b"] == pytest.approx(0.28, abs=0.02)
    assert law.loss(1e9, 2e10) == pytest.approx(true_loss(1e9, 2e10), rel=0.02)


def test_bounds_hold_the_truth_and_widen_with_distance_and_noise() -> None:
    held = 0
    for seed in range(4):
        law = fit(points((1e6, 4e6, 16e6), (2e7, 1e8, 5e8), noise=0.01, seed=seed), bootstraps=12, seed=seed)
        found = law.predict(64e6, 1e9)
        held += found.low <= true_loss(64e6, 1e9) <= found.high
    assert held >= 3
    near, far = (law.predict(n, 1e9) for n in (16e6, 16e9))
    assert (far.high - far.low) / far.loss > (near.high - near.low) / near.loss
    quiet = fit(points((1e6, 4e6, 16e6), (2e7, 1e8, 5e8)), bootstraps=12).predict(64e6, 1e9)
    assert quiet.high - quiet.low < found.high - found.low


@pytest.mark.parametrize(
    ("sizes", "lengths", "form"),
    [((1e6, 4e6, 16e6), (1e8,), "A/N^a"), ((1e6, 2e6, 4e6, 8e6), (1e8,), "E + A/N^a"),
     ((1e6,), (1e6, 1e7, 1e8), "B/D^b"), ((1e6,), (1e6, 4e6, 1e7, 1e8), "E + B/D^b"),
     ((1e6, 4e6, 16e6), (1e7, 1e8), "E + A/N^a + B/D^a")],
)  # fmt: skip
def test_few_points_get_a_simpler_form(sizes, lengths, form: str) -> None:
    law = fit(points(sizes, lengths), bootstraps=5)
    assert law.form.name == form
    for point in law.points:
        assert law.loss(point.parameters, point.tokens) == pytest.approx(
            point.loss, rel=0.1 if form in ("A/N^a", "B/D^b") else 0.02
        )


def test_too_few_or_broken_points_are_refused() -> None:
    with pytest.raises(BadInputError, match="too few"):
        fit(points((1e6, 2e6), (1e8,)))
    with pytest.raises(BadInputError, match="positive loss"):
        fit([*points((1e6, 2e6, 4e6), (1e8,)), Point(8_000_000, 10**8, math.nan)])


def test_the_best_split_of_a_budget_beats_its_neighbours() -> None:
    law = fit(points((1e6, 4e6, 16e6, 64e6), (2e7, 1e8, 5e8)), bootstraps=2)
    flops = 1e19
    n, d = law.best_split(flops, lambda size: 6 * size)
    assert 6 * n * d == pytest.approx(flops, rel=1e-6)
    assert law.loss(n, d) <= min(law.loss(n * f, d / f) for f in (0.5, 0.8, 1.25, 2.0))
    with pytest.raises(BadInputError, match="both must vary"):
        fit(points((1e6, 4e6, 16e6), (1e8,)), bootstraps=2).best_split(flops, lambda size: 6 * size)


def test_time_and_money() -> None:
    made = effort(1e9, 6e9, 2e12, price_per_hour=12.0)
    assert (made.flops, made.seconds, made.cost) == (6e18, 3e6, 1e4)


def test_replicas_reach_the_objective_in_a_simulated_queue() -> None:
    rate, service, objective = 8.0, 0.9, 3.0
    rng = np.random.default_rng(3)
    arrivals, works = np.cumsum(rng.exponential(1 / rate, 20_000)), rng.exponential(service, 20_000)

    def waited_little(replicas: int) -> float:
        free, waits = np.zeros(replicas), []
        for at, work in zip(arrivals, works, strict=True):
            first = int(free.argmin())
            begin = max(at, free[first])
            waits.append(begin - at)
            free[first] = begin + work
        return float(np.mean(np.array(waits) <= objective - service))

    enough = replicas_for(rate, service, objective)
    assert enough > rate * service
    assert waited_little(enough) >= 0.94
    assert waited_little(enough - 1) < 0.95
    with pytest.raises(BadInputError, match="no number of replicas"):
        replicas_for(1.0, 5.0, 4.0)
