"""Whether a model may answer ``model: "auto"``: a pure decision with reasons on one held-out evaluation.

The report is what ``train_jobs.evaluation.held_out`` writes, with the numbers of the newest memorization audit. A
number that is missing or not finite fails its check: a gate must not open because a measurement broke.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.sections.train import GateSection

MIN_SHARE_ASKED = 0.25  # of gate.questions and gate.unanswerable: fewer questions than this decide nothing
CHECKS = ("questions", "unanswerable", "beats_baseline", "abstains", "answers")  # of every model


@dataclass(frozen=True)
class GateCheck:
    """One condition: ``value`` against ``threshold`` (None where it could not be measured), and a sentence why."""

    name: str
    value: float | None
    threshold: float
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateResult:
    """The decision: passed if every check did; ``reason`` is what a person reads first."""

    passed: bool
    checks: tuple[GateCheck, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The decision in plain values for a JSON report; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> GateResult:
        """The decision that ``to_dict`` wrote down. KeyError or TypeError where a field is missing."""
        return cls(row["passed"], tuple(GateCheck(**check) for check in row["checks"]), row["reason"])

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Lines of a table: check, value, threshold, verdict."""
        return [
            (c.name, "-" if c.value is None else f"{c.value:.3f}", f"{c.threshold:.3f}", "ok" if c.passed else c.reason)
            for c in self.checks
        ]


def decide(report: Mapping[str, Any], section: GateSection) -> GateResult:
    """Judge a held-out report.

    Checks (``CHECKS``): enough questions of both kinds were asked; the lower 95 % bound of the paired difference of
    score, model minus baseline, lies above ``min_difference``; the share of unanswerable questions on which the model
    abstained is at least ``min_abstained``; and it answers some of the answerable ones (one that always abstains is no
    model). Where the section sets them: ``max_verbatim``, ``max_ece``, ``max_slice_gap``. Of a model that writes
    (a report with ``against``), too: it is better than what answers without it, and quick enough.

    Args:
        report: ``HeldOutReport.to_dict()``, and ``memorization`` (``actors.registry.audits``); what is missing fails.
    """
    asked, foreign = _number(report, "answerable", "n"), _number(report, "unanswerable", "n")
    low = _number(report, "difference", "low")
    refused = _number(report, "unanswerable", "abstained")
    kept_back = _number(report, "answerable", "abstained")
    answered = None if kept_back is None else 1.0 - kept_back
    enough, enough_foreign = MIN_SHARE_ASKED * section.questions, MIN_SHARE_ASKED * section.unanswerable
    checks = (
        _at_least("questions", asked, enough, "too few answerable questions on held-out documents"),
        _at_least("unanswerable", foreign, enough_foreign, "too few unanswerable questions"),
        _above(
            "beats_baseline", low, section.min_difference,
            "not better than the first sentence of the first passage (lower 95 % bound of the difference)",
        ),
        _at_least("abstains", refused, section.min_abstained, "answers too often when the passages hold no answer"),
        _at_least("answers", answered, section.min_answered, "abstains too often when the passages hold the answer"),
        *_limits(report, section),
        *_rivals(report, section),
    )  # fmt: skip
    failed = [check for check in checks if not check.passed]
    if not failed:
        return GateResult(
            True, checks, "passed: better than the baseline on held-out documents, and knows when to abstain"
        )
    return GateResult(False, checks, "refused: " + "; ".join(check.reason for check in failed))


def _limits(report: Mapping[str, Any], section: GateSection) -> Iterator[GateCheck]:
    """What is asked only where it is configured."""
    for name, most, part, key, why in (
        ("verbatim", section.max_verbatim, "memorization", "verbatim_train",
         "writes documents of its training word for word (`plinth audit memorization` measures it)"),
        ("ece", section.max_ece, "calibration", "ece", "is not as certain as it is right"),
        ("slice_gap", section.max_slice_gap, "slices", "gap", _worst(report)),
    ):  # fmt: skip
        if most is not None:
            value = _number(report, part, key)
            yield _check(name, value, most, value is not None and value <= most, why)


def _rivals(report: Mapping[str, Any], section: GateSection) -> Iterator[GateCheck]:
    """What a model that writes must show beside: it costs more than those that need not."""
    against = report.get("against")
    if not isinstance(against, Mapping):
        return
    for name in sorted({"quote", *against}):
        low = _number(against, name, "low")
        why = f"not better than {name} on the same questions (lower 95 % bound of the difference)"
        yield _above(f"beats_{name}", low, section.min_difference, why)
    if section.max_first_token_s is not None:
        first, most = _number(report, "pace", "first_token_s"), section.max_first_token_s
        yield _check("first_token", first, most, first is not None and first <= most, "seconds to its first word")


def _worst(report: Mapping[str, Any]) -> str:
    found = report.get("slices")
    worst = found.get("worst") if isinstance(found, Mapping) else None
    return f"is much worse on {worst or 'a slice of the questions'} than on all of them"


def _number(report: Mapping[str, Any], part: str, key: str) -> float | None:
    inner = report.get(part)
    value = inner.get(key) if isinstance(inner, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _at_least(name: str, value: float | None, threshold: float, why: str) -> GateCheck:
    return _check(name, value, threshold, value is not None and value >= threshold, why)


def _above(name: str, value: float | None, threshold: float, why: str) -> GateCheck:
    return _check(name, value, threshold, value is not None and value > threshold, why)


def _check(name: str, value: float | None, threshold: float, passed: bool, why: str) -> GateCheck:
    if passed:
        return GateCheck(name, value, threshold, True, "ok")
    return GateCheck(name, value, threshold, False, f"{why}: " + ("not measured" if value is None else f"{value:.3f}"))
