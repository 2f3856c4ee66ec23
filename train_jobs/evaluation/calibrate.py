"""Fits the support model of the quote tier (``data_jobs/retrieval/support_model.json``) and says how far it carries.

    python -m train_jobs.evaluation calibrate --data ../shared/data --cache /tmp/vectors [--write]

A logistic regression on ``support_features`` of real searches in several corpora (``corpora.py``). What counts is a
corpus it never saw, so every family of corpora is also judged by a model fitted on the others. A feature whose sign
contradicts its meaning (more coverage, less support) is left out and the rest fitted again.

Where there is a reader, the confidence model is fitted on those of the same searches that it read: on the log odds of
the reader's best probability and of the support model's, and on whether what it points at is of the kind asked for.
Questions about something else are left out of it, which the search's evidence tells: with them that evidence counts for
more than it is worth beside a near miss.

The model of documented code is fitted on the searches that found code first, those of ``HARD`` among them. There is one
family of those: what is said of unseen questions is found by leaving out a fifth of them at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.core.records import CODE_KINDS
from cluster.core.sections.data import IndexSection, RetrievalSection
from data_jobs.retrieval.embedder import load_embedder
from data_jobs.retrieval.passage_reader import AUTO, load_passage_reader
from data_jobs.retrieval.support import (
    CODE_MODEL,
    CONFIDENCE_MODEL,
    MODEL,
    UNREAD,
    SupportModel,
    combined,
    of_code,
    support_features,
    support_model,
)
from train_jobs.answering.abstention import CAREFUL
from train_jobs.evaluation.corpora import corpora
from train_jobs.evaluation.local_index import searcher_over
from train_jobs.evaluation.metrics import Rate
from train_jobs.recipes.reader_rows import squad_titles

# The evidence that may be used, and which way it must point: +1 speaks for support, -1 against. ``terms`` corrects
# coverage for long questions, ``log_chunks`` the best of many for chance, ``reference`` similarity for terse texts.
SIGNS = {
    "top_dense": 1,
    "mean_dense": 1,
    "best_match": 1,
    "best_sentence": 1,
    "coverage_1": 1,
    "covered_one": 1,
    "terms": 1,
    "strange_words": -1,
    "unknown": -1,
    "unknown_identifiers": -1,
    "unwritten_identifiers": -1,
    "foreign_names": -1,
    "foreign_acronyms": -1,
    "foreign_scope": -1,
    "log_chunks": -1,
    "reference": 1,
}
CONFIDENCE_SIGNS = {"reader": 1, "unlike": -1, "support": 1}
CODE_SIGNS = {"support": 1, "beside": -1, "long": 1, "unknown": -1}
HARD = ("impossible", "missing", "absent")  # what the support model cannot tell, and is not fitted on
SUBTLE = ("answerable", "near", "missing", "impossible")  # what the confidence model is fitted on
RIDGE = 0.05
FIFTHS = 5
ROUNDS = 60
# A group's share of the loss, whatever its number of cases: a refusal of an answerable question costs most.
GROUP_WEIGHT = {
    "answerable": 2.6,
    "near": 1.5,
    "far": 1.0,
    "other": 1.0,
    "impossible": 1.5,
    "missing": 1.5,
    "absent": 0.7,
}
# Families have one to eight corpora.
FAMILY_WEIGHT = {"stdlib": 1.0, "rustbook": 1.0, "otel": 1.0, "folders": 0.8, "squad": 0.4, "scifact": 0.25}


@dataclass(frozen=True)
class Row:
    """The features of one search, and what it should have led to."""

    corpus: str
    family: str
    group: str
    question: str
    values: dict[str, float]

    @property
    def answerable(self) -> bool:
        """Whether the corpus answers the question: the label that the model is fitted to."""
        return self.group == "answerable"


def gather(data: Path, cache: Path | None) -> list[Row]:
    """Search, and where there is a reader read, every question of every corpus. Minutes the first time (embedding),
    seconds with a warm cache, and a second for every ten questions read."""
    index, retrieval = IndexSection(), RetrievalSection()
    embedder, reader = load_embedder(index, threads=2), load_passage_reader(AUTO, threads=2)
    learnt = squad_titles(data)[0]  # the reader knows their answers
    rows = []
    for corpus in corpora(data):
        searcher = searcher_over(corpus.documents, index, retrieval, embedder, cache, corpus.name)
        searcher.reader = reader
        for case in corpus.cases:
            found = searcher.search(case.question)
            values = support_features(case.question, found)
            support = support_model().probability(values)
            if found.readings and case.title not in learnt:
                values |= combined(case.question, found, support)
            if found.passages and found.passages[0].kind in CODE_KINDS:
                values |= of_code(case.question, found, values, support)
            rows.append(Row(corpus.name, corpus.family, case.group, case.question, values))
        print(f"{corpus.name}: {len(corpus.documents)} documents, {len(corpus.cases)} questions", flush=True)
    return rows


def by_group(rows: Sequence[Row]) -> np.ndarray:
    """What each row counts: its group's and its family's share, whatever the number of cases."""
    sizes = Counter((row.corpus, row.group) for row in rows)
    return np.array([GROUP_WEIGHT[r.group] * FAMILY_WEIGHT[r.family] / sizes[r.corpus, r.group] for r in rows])


def evenly(rows: Sequence[Row]) -> np.ndarray:
    """What each row counts: the answerable ones of every family as much as the others; a tenth in the mean."""
    sizes = Counter((row.family, row.answerable) for row in rows)
    weights = np.array([1 / sizes[row.family, row.answerable] for row in rows])
    return weights * len(rows) / weights.sum() / 10


Weigh = Callable[[Sequence[Row]], np.ndarray]


def fit(rows: Sequence[Row], signs: Mapping[str, int] = SIGNS, weigh: Weigh = by_group) -> SupportModel:
    """Weighted ridge logistic regression by Newton's method on the features in ``signs``; those of the wrong sign are
    dropped one by one."""
    used = list(signs)
    while True:
        model = _fit(rows, used, weigh(rows))
        wrong = {n: c * signs[n] for n, c in zip(used, model.coefficients, strict=True) if c * signs[n] < 0}
        if not wrong:
            return model
        used.remove(min(wrong, key=lambda name: wrong[name]))


def _fit(rows: Sequence[Row], features: Sequence[str], weights: np.ndarray) -> SupportModel:
    raw = np.array([[row.values[name] for name in features] for row in rows])
    means, scales = raw.mean(axis=0), raw.std(axis=0)
    scales[scales < 1e-4] = 1.0  # the same everywhere: no evidence, whatever its weight
    inputs = np.c_[(raw - means) / scales, np.ones(len(rows))]
    labels = np.array([float(row.answerable) for row in rows])
    ridge = np.diag([RIDGE] * len(features) + [0.0])
    theta = np.zeros(inputs.shape[1])
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-inputs @ theta))
        gradient = inputs.T @ (weights * (p - labels)) + ridge @ theta
        hessian = (inputs.T * (weights * p * (1 - p))) @ inputs + ridge
        step = np.linalg.solve(hessian, gradient)
        theta -= step
        if np.abs(step).max() < 1e-8:
            break
    return SupportModel(
        tuple(features), _rounded(means), _rounded(scales), _rounded(theta[:-1]), round(float(theta[-1]), 5)
    )


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)


def held_out(
    rows: Sequence[Row], training: Sequence[Row], threshold: float, signs: Mapping[str, int] = SIGNS,
    weigh: Weigh = by_group,
) -> dict[str, dict[str, Rate]]:  # fmt: skip
    """Share of questions abstained from, per corpus and group, by models that never saw the corpus's family."""
    table: dict[str, dict[str, Rate]] = {}
    families = sorted({row.family for row in rows})
    if len(families) == 1:
        return _by_fifths(rows, threshold, signs)
    for family in families:
        model = fit([row for row in training if row.family != family], signs, weigh)
        table |= abstained([row for row in rows if row.family == family], model, threshold)
    return table


def _by_fifths(rows: Sequence[Row], threshold: float, signs: Mapping[str, int]) -> dict[str, dict[str, Rate]]:
    """The same, by models that never saw the questions."""
    outcomes: dict[str, dict[str, list[bool]]] = {}
    for part in range(FIFTHS):
        model = fit([row for place, row in enumerate(rows) if place % FIFTHS != part], signs)
        for row in rows[part::FIFTHS]:
            refused = model.probability(row.values) < threshold
            outcomes.setdefault(row.corpus, {}).setdefault(row.group, []).append(refused)
    return {corpus: {group: Rate.of(found) for group, found in groups.items()} for corpus, groups in outcomes.items()}


def abstained(rows: Sequence[Row], model: SupportModel, threshold: float) -> dict[str, dict[str, Rate]]:
    """Share of questions abstained from, per corpus and group."""
    table: dict[str, dict[str, Rate]] = {}
    for corpus, group in sorted({(row.corpus, row.group) for row in rows}):
        values = [row.values for row in rows if (row.corpus, row.group) == (corpus, group)]
        table.setdefault(corpus, {})[group] = Rate.of(model.probability(v) < threshold for v in values)
    return table


def to_dict(model: SupportModel, rows: Sequence[Row], unseen: dict[str, dict[str, Rate]]) -> dict[str, object]:
    """What the model file holds: the model, what it was fitted on, and how it did on corpora it had not seen."""
    counts = Counter(f"{row.corpus} {row.group}" for row in rows)
    return {
        "features": model.features,
        "means": model.means,
        "scales": model.scales,
        "coefficients": model.coefficients,
        "intercept": model.intercept,
        "fitted_by": "python -m train_jobs.evaluation calibrate",
        "fitted_on": dict(sorted(counts.items())),
        "abstained_unseen": {c: {g: str(rate) for g, rate in groups.items()} for c, groups in unseen.items()},
    }


def calibrate(data: Path, cache: Path | None, write: bool) -> None:
    """Gather, fit, judge and print; with ``write``, put the models where the service reads them."""
    rows = gather(data, cache)
    fitted = [(MODEL, SIGNS, UNREAD, rows, [row for row in rows if row.group not in HARD], by_group)]
    if read := [row for row in rows if "reader" in row.values]:
        # One search of ten in the manuals is read: too few of a family to count as much as another.
        subtle = [row for row in read if row.group in SUBTLE and row.family in ("folders", "squad")]
        fitted.append((CONFIDENCE_MODEL, CONFIDENCE_SIGNS, CAREFUL, read, subtle, evenly))
    if code := [row for row in rows if "beside" in row.values]:
        fitted.append((CODE_MODEL, CODE_SIGNS, UNREAD, code, code, by_group))
    for path, signs, threshold, judged, training, weigh in fitted:
        model = fit(training, signs, weigh)
        unseen = held_out(judged, training, threshold, signs, weigh)
        for title, table in (("corpus unseen", unseen), ("all seen", abstained(judged, model, threshold))):
            print(f"\nabstained, {title} ({path.stem}):")
            for corpus, groups in table.items():
                print(f"  {corpus:16}", "; ".join(f"{group} {rate}" for group, rate in groups.items()))
        print("\n" + "\n".join(f"{n:22} {c:+.2f}" for n, c in zip(model.features, model.coefficients, strict=True)))
        if write:
            path.write_text(json.dumps(to_dict(model, training, unseen), indent=1) + "\n", encoding="utf-8")
            print(f"wrote {path}")
