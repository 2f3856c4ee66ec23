"""The gate of adaptations: it opens for a sure gain that cost nothing, and each further try must be surer."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actors.policies.adapting import decide, level_of
from cluster.core.sections.adapt import AdaptSection


def figures(questions: int, low: float, mean: float = 0.02, recall: float = 0.0) -> dict[str, Any]:
    return {"questions": questions, "groups": questions // 2, "mrr": {"mean": mean, "low": low},
            "recall": {"mean": recall, "low": recall}}  # fmt: skip


GOOD = {"held_out": figures(200, 0.01), "otherwise": figures(40, -0.01), "shipped": figures(80, -0.01, 0.0)}


def changed(part: str, name: str, value: Any) -> dict[str, Any]:
    report = copy.deepcopy(GOOD)
    where = report.setdefault(part, figures(50, 0.01))
    *path, last = name.split(".")
    for step in path:
        where = where[step]
    where[last] = value
    return report


def test_a_sure_gain_that_cost_nothing_passes() -> None:
    result = decide(GOOD, AdaptSection())
    assert result.passed, result.reason
    assert decide(changed("people", "mrr.low", 0.001), AdaptSection()).passed


@pytest.mark.parametrize(
    ("check", "report"),
    [
        ("held_out_gains", changed("held_out", "mrr.low", 0.0)),
        ("held_out_gains", changed("held_out", "mrr.low", float("nan"))),
        ("held_out_recall", changed("held_out", "recall.mean", -0.01)),
        ("questions", changed("held_out", "questions", 59)),
        ("documents", changed("held_out", "groups", 9)),
        ("asked_otherwise", changed("otherwise", "questions", 19)),
        ("otherwise_kept", changed("otherwise", "mrr.mean", -0.001)),
        ("shipped_kept", changed("shipped", "mrr.low", -0.021)),
        ("people_gains", changed("people", "mrr.low", -0.002)),
        ("people_recall", changed("people", "recall.mean", -0.01)),
    ],
)
def test_any_other_is_refused_for_that_reason_alone(check: str, report: dict[str, Any]) -> None:
    result = decide(report, AdaptSection())
    assert [one.name for one in result.checks if not one.passed] == [check]
    assert next(one.reason for one in result.checks if not one.passed) in result.reason
    assert result.reason.startswith("refused: ")


@pytest.mark.parametrize("report", [{}, {"held_out": None}, {"held_out": 3, "shipped": True}, {**GOOD, "people": {}}])
def test_what_was_not_measured_never_passes(report: dict[str, Any]) -> None:
    result = decide(report, AdaptSection())
    assert not result.passed
    assert "not measured" in result.reason


def test_each_further_try_must_be_surer() -> None:
    assert level_of(1) == pytest.approx(0.95)
    assert level_of(2) == pytest.approx(0.975)
    assert level_of(5) == pytest.approx(0.99)
