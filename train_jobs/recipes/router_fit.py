"""Fitting a router: a penalised logistic model whose settings are chosen on subjects that it has not seen.

Everything here sees the side ``train`` only. Folds are whole subjects, so what is chosen is what carries over to other
subjects. The penalty is of two parts, as vectors are many weak inputs and cheap features a few strong ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from train_jobs.answering.difficulty import CHEAP, Difficulty, Floats
from train_jobs.evaluation.routing import Outcomes, curve

FOLDS = 5
# How much all questions together weigh against a penalty of 1 on each standardised weight, and how much less cheap
# features are held.
STRENGTHS = (0.3, 3.0)
CHEAP_SCALES = (3.0, 10.0)
BASELINE_STRENGTHS = (0.1, 0.3, 1.0)
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fitted:
    """A model, and what was chosen for it."""

    model: Difficulty
    chosen: dict[str, float]


def fit(inputs: Floats, outcomes: Outcomes, embedder: str) -> Fitted:
    """A calibrated model of whether the small tier suffices, the one with the best APGR on subjects left out.

    Args:
        inputs: ``difficulty.inputs_of``, [n, k]; embedder: whose vectors they are.
    """
    from threadpoolctl import threadpool_limits

    folds, labels = folds_of(outcomes.subjects), outcomes.suffices
    settings = list(itertools.product(STRENGTHS, CHEAP_SCALES))
    with threadpool_limits(1):  # fits of milliseconds: on a busy machine threads wait for each other far longer
        scores = [unseen(folds, partial(_left_out, inputs, labels, *setting)) for setting in settings]
    areas = [curve(-own, outcomes).apgr for own in scores]
    best = int(np.argmax(areas))
    strength, scale = settings[best]
    slope, shift = recalibration(scores[best], labels)
    model = linear(inputs, labels, strength, scale, embedder)
    model = replace(model, weights=tuple(slope * weight for weight in model.weights), bias=shift)
    chosen = {"strength": strength, "cheap_scale": scale, "slope": slope, "shift": shift, "apgr": areas[best]}
    return Fitted(model, chosen)


def linear(inputs: Floats, labels: Labels, strength: float, cheap_scale: float, embedder: str = "") -> Difficulty:
    """One penalised logistic model."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    scale[-len(CHEAP) :] /= cheap_scale
    model = LogisticRegression(C=strength / len(labels), max_iter=1000)
    found = model.fit((inputs - mean) / scale, labels)
    return Difficulty(
        embedder, tuple(map(float, mean)), tuple(map(float, scale)), tuple(map(float, found.coef_[0])),
        float(found.intercept_[0]),
    )  # fmt: skip


def _left_out(inputs: Floats, labels: Labels, strength: float, cheap_scale: float, out: Labels) -> Floats:
    model = linear(inputs[~out], labels[~out], strength, cheap_scale)
    return model.scores(inputs[out]) - model.bias


def unseen(folds: npt.NDArray[np.int64], score: Callable[[Labels], Floats]) -> Floats:
    """The score [n] of each question by a model that saw none of its subject, without its bias: that of a fold is the
    higher, the lower what it left out, and would spoil the order of questions of several folds.

    Args:
        score: scores of the questions that are left out (a mask), of a model fitted on the others.
    """
    scores = np.zeros(len(folds))
    for fold in np.unique(folds):
        scores[folds == fold] = score(folds == fold)
    return scores


def fit_baseline(questions: Sequence[str], outcomes: Outcomes) -> tuple[Callable[[Sequence[str]], Floats], float]:
    """TF-IDF and logistic regression on the same rows, its strength chosen in the same way: what says how likely the
    small tier suffices for questions, and the strength."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    folds, labels, words = folds_of(outcomes.subjects), outcomes.suffices, np.array(questions, dtype=object)
    scores = np.zeros((len(BASELINE_STRENGTHS), len(labels)))
    for fold in np.unique(folds):
        out = folds == fold
        vectorizer = TfidfVectorizer(sublinear_tf=True)
        seen, asked = vectorizer.fit_transform(words[~out]), vectorizer.transform(words[out])
        for row, strength in zip(scores, BASELINE_STRENGTHS, strict=True):
            model = logistic(strength).fit(seen, labels[~out])
            row[out] = model.decision_function(asked) - model.intercept_[0]
    strength = BASELINE_STRENGTHS[int(np.argmax([curve(-row, outcomes).apgr for row in scores]))]
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    best = logistic(strength).fit(vectorizer.fit_transform(words), labels)
    return lambda others: best.predict_proba(vectorizer.transform(others))[:, 1], strength


def logistic(strength: float) -> Any:
    """The baseline's regression before it is fitted."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, solver="liblinear", random_state=0)


def folds_of(subjects: npt.NDArray[np.str_], folds: int = FOLDS) -> npt.NDArray[np.int64]:
    """A fold [n] for each question, the same for all of its subject: the largest subjects first, each into the fold
    that has fewest questions."""
    names, place, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    have, fold = np.zeros(min(folds, len(names)), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    for name in np.argsort(-counts, kind="stable"):
        fold[name] = int(have.argmin())
        have[fold[name]] += counts[name]
    return fold[place]


def surprise(scores: Floats, labels: Labels) -> float:
    """Mean negative log-likelihood (nats) of what happened, under log-odds [n]."""
    return float(np.logaddexp(0, np.where(labels, -scores, scores)).mean())


def recalibration(scores: Floats, labels: Labels) -> tuple[float, float]:
    """Slope and shift of log-odds under which what happened surprises least (Platt 1999). The slope stays above 0, so
    that the order of questions does not turn round."""
    from scipy.optimize import minimize

    found = minimize(
        lambda x: surprise(np.exp(x[0]) * scores + x[1], labels), np.zeros(2), bounds=((-8, 8), (-10, 10)),
        method="L-BFGS-B",
    )  # fmt: skip
    return float(np.exp(found.x[0])), float(found.x[1])
