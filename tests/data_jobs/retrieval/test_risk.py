"""The promised risk: bounds as published, promises that are kept, and evidence that says when it is too little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from cluster.core.errors import IntegrityError
from data_jobs.indexing.risk_plot import risk_plot
from data_jobs.retrieval.risk import (
    RISK_FILE,
    Evidence,
    Judged,
    carried,
    least_answers,
    read_evidence,
    upper_bound,
    write_evidence,
)


def evidence(rows: list[tuple[float, bool, bool]]) -> Evidence:
    """Of (confidence, answerable, supported)."""
    return Evidence("r1", 12, tuple(Judged("made", answerable, sure, right) for sure, answerable, right in rows))


def good(count: int = 100, wrong: int = 0) -> Evidence:
    """Answerable ones at 0.9, ``wrong`` of the others among them, the rest at 0.2."""
    others = [(0.9 if n < wrong else 0.2, False, False) for n in range(count)]
    return evidence([(0.9, True, True)] * count + others)


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (0, 59), (1, 93), (3, 153), (10, 300), (299, 300), (120, 4000)])
def test_the_bound_is_clopper_and_pearson_s(hits: int, total: int) -> None:
    assert upper_bound(hits, total) == pytest.approx(beta.ppf(0.95, hits + 1, total - hits), abs=1e-5)
    assert upper_bound(total, total) == 1.0


def test_how_much_evidence_a_promise_takes() -> None:
    assert (least_answers(0.05), least_answers(0.01)) == (59, 299)
    assert upper_bound(0, least_answers(0.05)) <= 0.05 < upper_bound(0, least_answers(0.05) - 1)


def test_the_lowest_threshold_that_keeps_the_risk() -> None:
    promised = good().promise(0.05, least=0.0)
    assert promised is not None
    assert 0.2 < promised.threshold <= 0.9
    assert promised.threshold == 0.21, "every threshold above the unanswerable ones keeps it"
    assert (promised.point.answered, promised.point.unsupported, promised.point.coverage) == (100, 0, 1.0)
    assert promised.point.bound <= 0.05
    assert "at most 5% of the answers" in good().said(0.05)
    careful = good().promise(0.05)
    assert careful is not None
    assert careful.threshold == 0.4, "no promise makes the service less careful than it is without one"


def test_no_promise_without_evidence_or_with_too_many_faults() -> None:
    few = good(count=40)
    assert few.promise(0.05) is None
    assert "too little evidence" in few.said(0.05)
    assert few.promise(0.2) is not None
    wrong = good(wrong=12)
    assert wrong.promise(0.05) is None
    assert "no threshold keeps 5%" in wrong.said(0.05)
    assert evidence([]).promise(0.05) is None


def test_another_reader_s_confidence_means_something_else() -> None:
    assert good().promise(0.05, "r1") is not None
    assert good().promise(0.05, "r2") is None


def test_promises_are_kept() -> None:
    """Over many corpora whose true risk at every threshold is known, one promise in twenty may fail, not more: the risk
    is 2 % for the surest and grows below, so that the boundary is come to again and again."""
    generator, corpora, broken, made = np.random.default_rng(5), 200, 0, 0
    for _ in range(corpora):
        sure = generator.uniform(0, 1, 600)
        right = generator.uniform(0, 1, 600) >= 0.02 + 0.2 * (1 - sure)
        found = evidence([(float(s), True, bool(r)) for s, r in zip(sure, right, strict=True)]).promise(0.1, least=0.0)
        if found is not None:
            made += 1
            broken += 0.02 + 0.1 * (1 - found.threshold) > 0.1  # the mean of the risk above the threshold
    assert made > 60
    assert broken / corpora < 0.05 + 0.03


def test_calibration_error() -> None:
    assert evidence([(0.95, True, True)] * 19 + [(0.95, False, False)]).ece == pytest.approx(0.0, abs=1e-9)
    assert evidence([(0.9, True, True)] * 5 + [(0.9, False, False)] * 5).ece == pytest.approx(0.4)
    assert evidence([]).ece == 0.0


def test_evidence_is_kept_beside_the_index(tmp_path: Path) -> None:
    assert read_evidence(tmp_path) is None
    write_evidence(good(), 0.05, tmp_path)
    assert read_evidence(tmp_path) == good()
    row = json.loads((tmp_path / RISK_FILE).read_text())
    assert row["promise"]["threshold"] == 0.4
    assert (row["questions"], row["max_risk"], row["confidence"]) == (200, 0.05, 0.95)
    assert "question" not in row["judged"][0], "what was asked, of whatever document, is not kept"
    first = carried(good(), "v1")
    assert (first.carried_from, carried(first, "v2").carried_from) == ("v1", "v1")
    (tmp_path / RISK_FILE).write_text(json.dumps({**row, "format": 99}))
    with pytest.raises(IntegrityError, match="build the index anew"):
        read_evidence(tmp_path)


@pytest.mark.parametrize("known", [good(), good(wrong=12), evidence([])])
def test_the_picture_is_the_same_for_the_same_evidence(known: Evidence) -> None:
    drawn = risk_plot(known, 0.05, "Index main")
    assert drawn.startswith(b"\x89PNG")
    assert drawn == risk_plot(known, 0.05, "Index main")
