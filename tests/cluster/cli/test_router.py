"""`plinth router`: the curve as a table and as JSON, a threshold for a cost, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.main import main
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from data_jobs.retrieval import model_files
from train_jobs.publishing.routing_policy import SHIPPED_FOLDER, find_router, live_policy


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, in whose service the embedder is the one the shipped router reads; hashing it takes a while."""
    monkeypatch.setattr(model_files, "find_model", lambda section: Embedder(section))
    return Store(Home(home).store_uri)


class Embedder:
    def __init__(self, section: IndexSection) -> None:
        router = json.loads((SHIPPED_FOLDER / "router.json").read_bytes())
        self.asks = router["embedder"] if section.embedder == "minilm" else "another"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_curve_is_shown_as_a_table_and_as_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "router", "show")
    assert found["router"].startswith("shipped@")
    assert found["in_use"] is None
    rows = found["report"]["curve"]
    assert [row["cost"] for row in rows][:3] == [0.0, 0.05, 0.1]
    assert [row["threshold"] for row in rows] == sorted(row["threshold"] for row in rows)
    assert main(["router", "show", "shipped"]) == 0
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
    dearer = said(capsys, "router", "tune", "shipped", "--target-cost", "0.6")
    assert dearer["threshold"] > tuned["threshold"]
    assert main(["router", "tune", "--target-cost", "0.3"]) == 0
    assert "auto routes by shipped@" in capsys.readouterr().out
    assert said(capsys, "router", "off") == {"was_in_use": True}
    assert live_policy(store) is None
    assert said(capsys, "router", "off") == {"was_in_use": False}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("tune", "--target-cost", "1.2"), ExitCode.USAGE, "0 to 1"),
        (("tune", "--target-cost", "nan"), ExitCode.USAGE, "0 to 1"),
        (("tune",), ExitCode.USAGE, "--target-cost"),
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


def test_the_shipped_router_is_small_and_says_where_it_is_from(store: Store) -> None:
    assert sum(path.stat().st_size for path in SHIPPED_FOLDER.iterdir()) <= 200_000
    card = (SHIPPED_FOLDER / "card.md").read_text()
    assert "Apache-2.0" in card
    assert find_router(store).report["report"]["difference"]["random"]["low"] > 0
