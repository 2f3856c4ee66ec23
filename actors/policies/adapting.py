"""Whether an index may answer with what it learnt of its questions: a pure decision with reasons on one report.

The report is ``train_jobs.adaptation.judging.figures`` of each set of questions. A number that is missing or not finite
fails its check. Whoever tries again on the same documents, with another seed or other settings, will once find a gain
that is none: the n-th try needs an interval of 1 - .05/n instead of .95 (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from actors.policies.gate import GateCheck, GateResult
from cluster.core.sections.adapt import AdaptSection

LEVEL = 0.95
LEAST_OTHERWISE = 20  # questions of the manner that was not learnt


def level_of(tries: int) -> float:
    """The level of the intervals of the ``tries``-th try on the same documents (from 1)."""
    return 1 - (1 - LEVEL) / max(1, tries)


def decide(report: Mapping[str, Any], section: AdaptSection) -> GateResult:
    """Judge a report of ``held_out``, ``otherwise``, ``shipped`` and, where people's questions were given, ``people``.

    Checks: enough held-out questions on enough documents; the lower bound of the paired difference of the reciprocal
    rank, learnt minus stock, lies above 0 on them, and so on people's; neither finds fewer among the first five; the
    manner of asking that was not learnt did not lose; and on the shipped questions no more is lost than ``margin``.
    """
    checks = tuple(_checks(report, section))
    failed = [check for check in checks if not check.passed]
    if not failed:
        return GateResult(True, checks, "passed: finds held-out passages earlier, and lost nothing that it knew")
    return GateResult(False, checks, "refused: " + "; ".join(check.reason for check in failed))


def _checks(report: Mapping[str, Any], section: AdaptSection) -> Iterator[GateCheck]:
    yield _check("questions", _number(report, "held_out", "questions"), section.min_questions,
                 "too few held-out questions")  # fmt: skip
    yield _check("documents", _number(report, "held_out", "groups"), section.min_documents,
                 "too few held-out documents")  # fmt: skip
    for name, whose in (("held_out", "made"), ("people", "people's")):
        if name == "held_out" or report.get(name) is not None:
            yield _check(
                f"{name}_gains", _number(report, name, "mrr", "low"), 0.0,
                f"no sure gain in reciprocal rank on {whose} held-out questions (lower bound)", above=True,
            )  # fmt: skip
            yield _check(f"{name}_recall", _number(report, name, "recall", "mean"), 0.0,
                         f"fewer right passages among the first five on {whose} held-out questions")  # fmt: skip
    yield _check("asked_otherwise", _number(report, "otherwise", "questions"), LEAST_OTHERWISE,
                 "too few held-out questions of the manner that is not learnt")  # fmt: skip
    yield _check("otherwise_kept", _number(report, "otherwise", "mrr", "mean"), 0.0,
                 "questions asked in a manner that was not learnt are found later")  # fmt: skip
    yield _check("shipped_kept", _number(report, "shipped", "mrr", "low"), -section.margin,
                 "forgets: the questions that ship with the product are found later (lower bound)")  # fmt: skip


def _number(report: Mapping[str, Any], *path: str) -> float | None:
    value: Any = report
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _check(name: str, value: float | None, threshold: float, why: str, above: bool = False) -> GateCheck:
    passed = value is not None and (value > threshold if above else value >= threshold)
    told = (
        "not measured" if value is None else f"{value:.4f}" if isinstance(value, float) and value % 1 else f"{value:g}"
    )
    return GateCheck(name, value, float(threshold), passed, "ok" if passed else f"{why}: {told}")
