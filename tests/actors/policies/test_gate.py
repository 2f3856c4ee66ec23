"""The gate: it opens for a better model, and says why it stays shut for any other."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actors.policies.gate import CHECKS, GateResult, decide
from cluster.core.sections.train import GateSection

GOOD: dict[str, Any] = {
    "answerable": {"n": 200, "model": 0.8, "baseline": 0.6, "abstained": 0.05},
    "unanswerable": {"n": 100, "abstained": 0.9},
    "difference": {"mean": 0.2, "low": 0.14, "high": 0.26},
}


def changed(part: str, **values: Any) -> dict[str, Any]:
    report = copy.deepcopy(GOOD)
    report[part].update(values)
    return report


def test_a_good_model_passes_every_check() -> None:
    result = decide(GOOD, GateSection())
    assert result.passed
    assert [check.name for check in result.checks] == list(CHECKS)
    assert all(check.passed for check in result.checks)


@pytest.mark.parametrize(
    ("check", "report"),
    [
        ("beats_baseline", changed("difference", low=-0.01)),
        ("beats_baseline", changed("difference", low=0.0)),
        ("beats_baseline", changed("difference", low=float("nan"))),
        ("abstains", changed("unanswerable", abstained=0.79)),
        ("answers", changed("answerable", abstained=0.6)),
        ("questions", changed("answerable", n=20)),
        ("unanswerable", changed("unanswerable", n=3)),
    ],
)
def test_a_bad_model_is_refused_for_that_reason_alone(check: str, report: dict[str, Any]) -> None:
    result = decide(report, GateSection())
    assert not result.passed
    assert [one.name for one in result.checks if not one.passed] == [check]
    assert result.reason.startswith("refused: ")
    assert next(c.reason for c in result.checks if not c.passed) in result.reason


def test_thresholds_come_from_the_configuration() -> None:
    assert not decide(GOOD, GateSection(min_difference=0.15)).passed
    assert not decide(GOOD, GateSection(min_abstained=0.95)).passed
    assert decide(changed("unanswerable", abstained=0.5), GateSection(min_abstained=0.5)).passed


@pytest.mark.parametrize(
    ("limit", "part", "number", "value"),
    [
        ("max_verbatim", "memorization", "verbatim_train", 0.02), ("max_ece", "calibration", "ece", 0.05),
        ("max_slice_gap", "slices", "gap", 0.1),
    ],
)  # fmt: skip
def test_more_is_asked_where_it_is_configured(limit: str, part: str, number: str, value: float) -> None:
    assert decide({**GOOD, part: {number: 1.0}}, GateSection()).passed, "nobody asked"
    section = GateSection(**{limit: value})  # type: ignore[arg-type]
    assert decide({**GOOD, part: {number: value}}, section).passed
    worse = decide({**GOOD, part: {number: 2 * value}}, section)
    assert [(c.value, c.threshold) for c in worse.checks if not c.passed] == [(2 * value, value)]
    assert "not measured" in decide(GOOD, section).reason


@pytest.mark.parametrize("report", [{}, {"difference": None}, changed("difference", low="0.3"), {"answerable": 3}])
def test_a_broken_report_never_passes(report: dict[str, Any]) -> None:
    result = decide(report, GateSection())
    assert not result.passed
    assert any(check.value is None for check in result.checks)


def test_a_result_survives_json() -> None:
    import json

    result = decide(changed("unanswerable", abstained=0.1), GateSection())
    assert GateResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert next(row for row in result.rows() if row[0] == "abstains")[:3] == ("abstains", "0.100", "0.800")
