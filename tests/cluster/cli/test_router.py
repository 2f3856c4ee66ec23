"""`plinth router`: the curve as a table and as JSON, a threshold for a cost, and the way back."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.cli.main import main
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from data_jobs.retrieval import model_files
from train_jobs.answering.difficulty import CHEAP, Difficulty
from train_jobs.evaluation.routing import Outcomes, thresholds
from train_jobs.publishing.routing_policy import live_policy
from train_jobs.recipes.router import judge, verdict

ASKS = "toy-embedder"


class Embedder:
    def __init__(self, section: IndexSection) -> None:
        self.asks = ASKS if section.embedder == "minilm" else "another"


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a router in it; hashing the real embedder takes a while."""
    monkeypatch.setattr(model_files, "find_model", Embedder)
    store = Store(Home(home).store_uri)
    publish(store, "router", knows=2.0)
    publish(store, "guesses", knows=0.0)
    return store


@functools.cache
def report_of(knows: float) -> dict[str, Any]:
    """What is told of invented outcomes by a router that ``knows`` more or less about them."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=600)
    small = (rng.random(600) > 1 / (1 + np.exp(-2 * hard))).astype(float)
    outcomes = Outcomes(small, np.maximum(small, rng.random(600) < 0.7), np.array([f"s{n % 20}" for n in range(600)]))
    found = 1 / (1 + np.exp(knows * hard + rng.normal(size=600)))
    judged = judge(found[:300], rng.random(300), outcomes.of(np.arange(300)))
    chosen = thresholds(found[300:], found[:300], outcomes.of(np.arange(300)))
    return {"report": judged, "verdict": verdict(judged), "thresholds": chosen}


def publish(store: Store, name: str, knows: float) -> None:
    numbers = (0.5,) * (4 + len(CHEAP))
    folder = store.staging(name)
    for file, body in (("router.json", Difficulty(ASKS, numbers, numbers, numbers, 0.0).to_dict()),
                       ("report.json", report_of(knows))):  # fmt: skip
        store.write(f"{folder}/{file}", json.dumps(body).encode())
    made = store.publish("routers", name, folder, run_key=name)
    store.move_alias("routers", name, "latest", made.version, why="test")


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_curve_is_shown_as_a_table_and_as_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "router", "show")
    assert found["router"].startswith("router@")
    assert found["in_use"] is None
    rows = found["report"]["curve"]
    assert [row["cost"] for row in rows][:3] == [0.0, 0.05, 0.1]
    assert [row["threshold"] for row in rows] == sorted(row["threshold"] for row in rows)
    assert main(["router", "show", "router"]) == 0
    text = capsys.readouterr().out
    assert "Quality over cost" in text
    assert f"{rows[6]['quality']:.3f}" in text
    assert found["verdict"][:20] in text


def test_a_cost_is_chosen_told_and_taken_back(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = said(capsys, "router", "tune", "--target-cost", "0.3")
    policy = live_policy(store)
    assert policy is not None
    assert (policy.threshold, policy.target_cost) == (tuned["threshold"], 0.3)
    assert said(capsys, "router", "show")["in_use"] == {
        "router": tuned["router"], "threshold": tuned["threshold"], "target_cost": 0.3,
    }  # fmt: skip
    dearer = said(capsys, "router", "tune", "router", "--target-cost", "0.6")
    assert dearer["threshold"] > tuned["threshold"]
    assert main(["router", "tune", "--target-cost", "0.3"]) == 0
    assert "auto routes by router@" in capsys.readouterr().out
    assert said(capsys, "router", "off") == {"was_in_use": True}
    assert live_policy(store) is None
    assert said(capsys, "router", "off") == {"was_in_use": False}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("tune", "--target-cost", "1.2"), ExitCode.USAGE, "0 to 1"),
        (("tune", "--target-cost", "nan"), ExitCode.USAGE, "0 to 1"),
        (("tune",), ExitCode.USAGE, "--target-cost"),
        (("tune", "guesses", "--target-cost", "0.3"), ExitCode.REFUSED, "not surely better than chance"),
        (("show", "nobody"), ExitCode.BAD_INPUT, "no router nobody"),
        (("tune", "--target-cost", "0.3", "--set", "index.embedder=other/one"), ExitCode.BAD_INPUT, "another embedder"),
    ],
)
def test_what_cannot_be_is_refused(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: ExitCode, message: str
) -> None:
    assert main(["router", *arguments]) == code
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert live_policy(store) is None
