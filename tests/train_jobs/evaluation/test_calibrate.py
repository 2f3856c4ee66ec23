"""Fitting: recovers what made the labels, drops what points the wrong way, judges unseen corpora."""

from __future__ import annotations

import random

from train_jobs.evaluation.calibrate import SIGNS, Row, abstained, fit, held_out


def rows(family: str, count: int = 120) -> list[Row]:
    """``top_dense`` decides; ``coverage_1`` misleads (more of it in unanswerable ones); the rest is noise."""
    picker = random.Random(family)
    made = []
    for number in range(count):
        yes = number % 2 == 0
        values = {name: picker.random() for name in SIGNS}
        values["top_dense"] = picker.gauss(0.7 if yes else 0.3, 0.08)
        values["coverage_1"] = picker.gauss(0.3 if yes else 0.6, 0.2)
        made.append(Row(family, family, "answerable" if yes else "near", f"q{number}", values))
    return made


def test_fit_finds_the_evidence_and_drops_what_points_the_wrong_way() -> None:
    model = fit(rows("stdlib"))
    weights = dict(zip(model.features, model.coefficients, strict=True))
    assert "coverage_1" not in weights
    assert max(weights, key=lambda name: abs(weights[name])) == "top_dense"
    table = abstained(rows("stdlib"), model, 0.5)["stdlib"]
    assert table["answerable"].value is not None
    assert table["answerable"].value < 0.05
    assert table["near"].value is not None
    assert table["near"].value > 0.9


def test_held_out_corpora_are_judged_by_models_that_never_saw_them() -> None:
    honest, twisted = rows("rustbook"), rows("otel")
    flipped = [Row(r.corpus, r.family, "near" if r.answerable else "answerable", r.question, r.values) for r in twisted]
    table = held_out([*honest, *flipped], [*honest, *flipped], 0.5)
    # Fitted on the other corpus only, whose labels are the other way round: it must fail on both.
    assert (table["otel"]["near"].value or 0) < 0.1
    assert (table["otel"]["answerable"].value or 0) > 0.9
