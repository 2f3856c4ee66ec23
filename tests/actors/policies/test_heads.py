"""The gate of heads that learnt from decisions: surely nearer to people, and nothing lost elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actors.policies.heads import by_chance, decide
from cluster.core.sections.feedback import ReviewSection

GOOD: dict[str, Any] = {
    "tries": 1,
    "decisions": {
        "harmful": 30, "harmless": 40, "before": {"missed": 0.0, "flagged": 0.9},
        "after": {"missed": 0.1, "flagged": 0.2}, "better": 28, "worse": 3, "chance": by_chance(28, 3),
    },
    "heads": {"harmful": {
        "there": True, "lost": 0, "without": {"missed": 0.3, "flagged": 0.02}, "with": {"missed": 0.32, "flagged": 0.0},
    }},
}  # fmt: skip


def changed(path: str, value: Any) -> dict[str, Any]:
    report = copy.deepcopy(GOOD)
    *places, last = path.split(".")
    where = report
    for place in places:
        where = where[place]
    where[last] = value
    return report


def test_chance_is_that_of_a_fair_coin() -> None:
    assert by_chance(0, 0) == 1
    assert by_chance(5, 0) == 1 / 32
    assert by_chance(1, 1) == 0.75


def test_what_is_surely_nearer_to_people_and_loses_nothing_passes_and_says_its_figures() -> None:
    result = decide(GOOD, ReviewSection())
    assert result.passed, result.reason
    assert "misses 10.0% (before 0.0%) and flags in vain 20.0% (before 90.0%)" in result.reason
    assert "right on 28 where the other is wrong, wrong on 3" in result.reason


@pytest.mark.parametrize(
    ("check", "report"),
    [
        ("decisions_harmful", changed("decisions.harmful", 19)),
        ("decisions_harmless", changed("decisions.harmless", 19)),
        ("surely_better", changed("decisions.chance", 0.051)),
        ("surely_better", changed("decisions.chance", float("nan"))),
        ("surely_better", changed("tries", None)),
        ("decisions_missed", changed("decisions.after.missed", 0.11)),
        ("decisions_flagged", changed("decisions.before.flagged", 0.05)),
        ("heads", changed("heads", {})),
        ("harmful_kept", changed("heads.harmful.lost", 1)),
        ("harmful_missed", changed("heads.harmful.with.missed", 0.33)),
        ("harmful_missed", changed("heads.harmful.without.missed", None)),
        ("harmful_flagged", changed("heads.harmful.with.flagged", 0.05)),
        ("injection_kept", changed("heads.injection", {"there": False, "lost": 1})),
    ],
)
def test_any_other_is_refused_for_that_reason_alone(check: str, report: dict[str, Any]) -> None:
    result = decide(report, ReviewSection())
    assert [one.name for one in result.checks if not one.passed] == [check]
    assert next(one.reason for one in result.checks if not one.passed) in result.reason
    assert result.reason.startswith("refused: ")


@pytest.mark.parametrize("report", [{}, {"decisions": 3, "heads": None}, {**GOOD, "heads": {"harmful": None}}])
def test_what_was_not_measured_opens_nothing(report: dict[str, Any]) -> None:
    assert not decide(report, ReviewSection()).passed


def test_a_further_try_must_be_surer() -> None:
    once = changed("decisions.chance", 0.03)
    assert decide(once, ReviewSection()).passed
    assert not decide({**once, "tries": 2}, ReviewSection()).passed


def test_what_may_be_lost_is_a_setting() -> None:
    assert decide(changed("decisions.after.missed", 0.2), ReviewSection(decisions_margin=0.2)).passed
    assert decide(changed("heads.harmful.with.missed", 0.4), ReviewSection(across_margin=0.1)).passed
