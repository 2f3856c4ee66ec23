"""The learned router: sides that share no subject, figures as published, a fit that carries over to other subjects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, IncompatibleError, IntegrityError, PolicyRefusedError, UsageError
from cluster.core.progress import Silent
from cluster.core.records import Manifest
from cluster.core.storage import Store
from train_jobs.answering.difficulty import CHEAP, Difficulty, cheap_features, inputs_of
from train_jobs.evaluation.routing import Outcomes, compared, curve, oracle, thresholds
from train_jobs.publishing.routing_policy import find_router, live_policy, switch_off, tune
from train_jobs.recipes.router import train_router
from train_jobs.recipes.router_fit import folds_of, recalibration
from train_jobs.recipes.router_rows import SIDES, outcomes_of, parse, read_outcomes, sides_of
from train_jobs.recipes.rows import BadRowError

ASKS, DIM = "toy-embedder", 6


def questions(seed: int = 0, subjects: int = 16, each: int = 30, helps: float = 2.5) -> list[dict[str, Any]]:
    """Rows whose difficulty is in a word of the question (``hard 0.83``): the small tier fails on hard ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject in range(subjects):
        for _ in range(each):
            hard = rng.normal()
            small = bool(rng.random() < 1 / (1 + np.exp(helps * hard)))
            rows.append({"prompt": f"Question of s{subject} hard {hard:.4f}", "subject": f"s{subject}",
                         "weak_correct": small, "strong_correct": bool(small or rng.random() < 0.8)})  # fmt: skip
    return rows


def encode(texts: Sequence[str]) -> np.ndarray:
    """Vectors in which difficulty is one direction of several."""
    rows = []
    for text in texts:
        rng = np.random.default_rng(len(text) * 7919 + sum(map(ord, text)))
        rows.append([float(text.rsplit(" ", 1)[1]), *rng.normal(size=DIM - 1)])
    return np.array(rows)


def written(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def store(home: object, tmp_path: Path) -> Store:
    del home
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows.jsonl, whose subjects claim to be on both sides, and a store with a router learnt from it."""
    folder = tmp_path_factory.mktemp("learnt")
    rows = [{**row, "split": ("train", "test")[n % 2]} for n, row in enumerate(questions())]
    train(Store(str(folder / "store")), written(folder / "rows.jsonl", rows))
    return folder


@pytest.fixture
def trained(learnt: Path, home: object) -> Store:
    del home
    return Store(str(learnt / "store"))


def train(store: Store, path: str, name: str = "router") -> Manifest:
    return train_router(PlinthConfig(), store, path, name, Silent(), "MIT", embed=(ASKS, encode))


def test_it_beats_chance_and_words_on_subjects_it_has_not_seen(trained: Store, learnt: Path) -> None:
    made = trained.manifest("routers", "router", "latest")
    counts = made.counts
    assert counts["passed"]
    assert counts["apgr"]["value"] > 0.6
    assert counts["better_than_baseline_by"]["low"] > 0.0
    assert counts["ece"] < 0.15
    router = find_router(trained)
    assert router.reference == f"router@{made.version}"
    asked = [f"Question of s99 hard {hard:.4f}" for hard in (-2, 2)]
    easy, hard = router.model.suffices(asked, encode(asked))
    assert easy > hard + 0.2
    folder = Path(trained.artefact(made))
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    card = (folder / "card.md").read_text()
    assert "curve.png" in card
    assert "MIT" in card
    assert sum(file.bytes for file in made.files) < 200_000
    assert train(trained, str(learnt / "rows.jsonl")).version == made.version, "the same run is reused"


def test_what_cannot_be_told_apart_is_not_passed_and_not_used(store: Store, tmp_path: Path) -> None:
    made = train(store, written(tmp_path / "rows.jsonl", questions(helps=0.0)))
    assert not made.counts["passed"]
    with pytest.raises(PolicyRefusedError, match="not surely better than chance"):
        tune(store, find_router(store), 0.3, ASKS)
    assert live_policy(store) is None


def test_no_subject_is_on_two_sides(trained: Store) -> None:
    report = find_router(trained, "router").report
    names = [name for side in SIDES for name in report["sides"][side]["names"]]
    assert len(names) == len(set(names)) == 16
    assert [report["sides"][side]["rows"] for side in SIDES] == [240, 120, 120]


def test_sides_are_the_same_in_any_order_and_keep_their_shares() -> None:
    subjects = [f"s{n}" for n in range(30) for _ in range(10 + 7 * (n % 5))]
    sides = sides_of(subjects)
    assert sides == sides_of(subjects[::-1])
    for side, share in SIDES.items():
        assert abs(sum(sides[name] == side for name in subjects) / len(subjects) - share) < 0.05
    folds = folds_of(np.array(subjects))
    assert all(len(set(folds[np.array(subjects) == name])) == 1 for name in set(subjects))
    assert len(set(folds)) == 5


def test_the_real_outcomes_are_split_by_subject(data_set: Any) -> None:
    found = read_outcomes(str(data_set("routing_routellm") / "routing.jsonl"))
    assert found.refused == []
    sides = sides_of([row["key"] for row in found.train])
    assert len(sides) == 57
    for side, share in SIDES.items():
        own = outcomes_of([row for row in found.train if sides[row["key"]] == side])
        assert abs(len(own.small) / len(found.train) - share) < 0.02
        assert own.gap > 0.05
        assert not {str(one) for one in own.subjects} & {name for name, other in sides.items() if other != side}


def test_apgr_is_that_of_the_paper() -> None:
    small, large = np.array([1.0, 1, 0, 0]), np.array([1.0, 1, 1, 1])
    outcomes = Outcomes(small, large, np.array(list("abcd")))
    best = curve(oracle(outcomes), outcomes)
    assert best.cost.tolist() == [0, 0.5, 1], "equals are sent together"
    assert best.apgr == pytest.approx(0.75)
    assert best.cost_of(0.5) == pytest.approx(0.25)
    assert curve(-oracle(outcomes), outcomes).apgr == pytest.approx(0.25)
    assert curve(np.zeros(4), outcomes).apgr == pytest.approx(0.5)
    # RouteLLM's own sum: trapezoids of accuracy over the share of strong calls, between both models' areas.
    difficulty = np.array([0.9, 0.1, 0.8, 0.7])
    accuracy = [0.5, 0.5, 0.75, 1.0, 1.0]
    area = float(np.trapezoid(accuracy, [0, 0.25, 0.5, 0.75, 1]))
    assert curve(difficulty, outcomes).apgr == pytest.approx((area - 0.5) / (1.0 - 0.5))


def test_chance_gets_a_half_and_its_interval_says_so() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    small = (rng.random(n) < 0.6).astype(float)
    outcomes = Outcomes(small, np.maximum(small, rng.random(n) < 0.5), np.array([f"s{i % 30}" for i in range(n)]))
    found = compared(rng.random(n), {"other": rng.random(n)}, outcomes, times=200)
    assert found["apgr"]["router"]["value"] == pytest.approx(0.5, abs=0.03)
    assert found["difference"]["random"]["low"] < 0 < found["difference"]["random"]["high"]
    assert found["difference"]["other"]["low"] < 0 < found["difference"]["other"]["high"]


def test_a_threshold_costs_what_was_asked_for(trained: Store) -> None:
    store, router = trained, find_router(trained)
    for target in (0.0, 0.3, 0.305, 1.0):
        made, row = tune(store, router, target, ASKS)
        policy = live_policy(store)
        assert policy is not None
        assert (policy.threshold, policy.target_cost) == (row["threshold"], target)
        assert store.alias("routing", "auto", "live") == made.version
        asked = [row["prompt"] for row in questions(seed=1, subjects=30)]
        sent = float((policy.difficulty.suffices(asked, encode(asked)) < policy.threshold).mean())
        assert sent == pytest.approx(target, abs=0.06 if 0 < target < 1 else 0.0)
    assert switch_off(store)
    assert live_policy(store) is None
    with pytest.raises(UsageError, match="0 to 1"):
        tune(store, router, 1.5, ASKS)
    with pytest.raises(IncompatibleError, match="another embedder"):
        tune(store, router, 0.5, "something else")
    with pytest.raises(BadInputError, match="no router nobody"):
        find_router(store, "nobody")


def test_thresholds_are_chosen_on_one_side_and_told_of_another() -> None:
    rng = np.random.default_rng(0)
    outcomes = Outcomes(np.zeros(50), np.ones(50), np.array(["s"] * 50))
    rows = thresholds(rng.random(1000), np.linspace(0, 0.5, 50), outcomes)
    at = {row["target"]: row for row in rows}
    assert (at[0.0]["cost"], at[1.0]["cost"]) == (0.0, 1.0)
    assert at[0.25]["threshold"] == pytest.approx(0.25, abs=0.05)
    assert at[0.25]["cost"] == pytest.approx(0.5, abs=0.1), "the others are harder, and it says so"
    assert [row["quality"] for row in rows] == [row["cost"] for row in rows]


def test_recalibration_finds_slope_and_shift() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20_000)
    labels = rng.random(20_000) < 1 / (1 + np.exp(-(2 * scores + 0.7)))
    assert recalibration(scores, labels) == pytest.approx((2, 0.7), abs=0.1)


def test_cheap_features_are_numbers_for_every_text() -> None:
    for text in ("", " ", "?" * 9, "x" * 100_000, "2 + 2 = 4", "日本語の質問", "\u200b\U0001f600\n\n", "NOT\x00"):
        found = cheap_features(text)
        assert found.shape == (len(CHEAP),)
        assert np.isfinite(found).all()
    assert inputs_of(["a", "b c"], np.array([[1.0, 2.0], [3.0, 4.0]])).shape == (2, 2 + len(CHEAP))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"subject": "s", "weak_correct": True, "strong_correct": True}, "no prompt"),
        ({"prompt": "p", "weak_correct": True, "strong_correct": True}, "no subject"),
        ({"prompt": "p", "subject": "s", "weak_correct": True}, "no strong_correct"),
        ({"prompt": "p", "subject": "s", "weak_correct": 2, "strong_correct": True}, "must be 0 to 1"),
        ({"prompt": "p", "subject": "s", "weak_correct": "yes", "strong_correct": True}, "must be 0 to 1"),
        ({"prompt": "p", "subject": "s", "weak_correct": float("nan"), "strong_correct": True}, "must be 0 to 1"),
        ({"prompt": "p", "subject": 3, "weak_correct": True, "strong_correct": True}, "subject is not a text"),
    ],
)
def test_bad_rows_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRowError, match=message):
        parse(row)


def test_rows_that_teach_nothing_are_refused(store: Store, tmp_path: Path) -> None:
    few = written(tmp_path / "few.jsonl", questions(subjects=3))
    with pytest.raises(BadInputError, match="of 3 subjects"):
        train(store, few)
    same = written(tmp_path / "same.jsonl", [{**row, "strong_correct": row["weak_correct"]} for row in questions()])
    with pytest.raises(BadInputError, match="nothing to route"):
        train(store, same)
    with pytest.raises(BadInputError, match="of 0 subjects"):
        train(store, written(tmp_path / "none.jsonl", ["no row"]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 2}, IncompatibleError),
        ({"cheap": ["words"]}, IncompatibleError),
        ({"weights": None}, IntegrityError),
        ({"weights": [1.0]}, IntegrityError),
        ({"bias": float("nan")}, IntegrityError),
        ({"scale": [0.0] * (2 + len(CHEAP))}, IntegrityError),
    ],
)
def test_a_damaged_model_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    k = 2 + len(CHEAP)
    model = Difficulty(ASKS, (0.0,) * k, (1.0,) * k, (0.5,) * k, 0.1)
    row = json.loads(json.dumps(model.to_dict()))
    assert Difficulty.from_dict(row) == model
    with pytest.raises(error):
        Difficulty.from_dict({**row, **change})
    with pytest.raises(IncompatibleError, match="vectors of 2 numbers"):
        model.suffices(["q"], [[1.0, 2, 3]])
