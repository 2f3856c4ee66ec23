"""Finds rows of a labelled text set whose label is probably wrong: confident learning.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 70,
arXiv:1911.00068). A classifier judges every row out of fold. A class's threshold is its mean probability over the
rows labelled so; a row whose probability of another class passes that class's threshold is counted for that class. The
counts, scaled to the given labels, estimate the joint distribution of given and true labels, and with it how many
labels of each kind are wrong; the least plausible rows of each kind (prune by noise rate) are reported, together with
those counted for another class, ranked by normalised margin.

The classifier is TF-IDF with logistic regression, one class against the rest: seconds on ten thousand rows, no model
to load. Rows with the same text always share a fold, so that a copy never vouches for itself.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Quarantined

FOLDS = 5
# Only the beginning of a row is read: labels that hang on what comes later are rare, files of one long line are not.
MAX_TEXT_CHARS = 20_000
MAX_FEATURES = 200_000
WORD = r"(?u)\w+"  # Words of any length: scikit-learn's default drops "I" and every other word of one letter.
C = 3.0  # The inverse strength of regularisation; weak, because texts are short and classes many.

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledRow:
    """One usable row; ``line`` counts from 1 in its file."""

    line: int
    text: str
    label: str


@dataclass(frozen=True)
class Suspect:
    """A row whose label is probably wrong.

    Attributes:
        margin: normalised margin in [-1, 1]: probability of the given label less that of the likeliest other one. The
            lower, the surer.
        given_probability, suggested_probability: out of fold.
    """

    line: int
    text: str
    given: str
    suggested: str
    margin: float
    given_probability: float
    suggested_probability: float

    def to_dict(self) -> dict[str, Any]:
        """Its fields as plain JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class LabelReport:
    """What was found.

    Attributes:
        suspects: most suspicious first.
        noise: estimated share of wrong labels.
        accuracy: out of fold, against the given labels: how far the classifier can be trusted here.
        noise_matrix: ``[true][given]``: P(given label | true label), zero entries left out.
        quarantined: rows that could not be used, with file:line and reason.
    """

    rows: int
    classes: tuple[str, ...]
    folds: int
    seed: int
    accuracy: float
    noise: float
    noise_matrix: dict[str, dict[str, float]]
    suspects: tuple[Suspect, ...]
    quarantined: tuple[Quarantined, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the suspects' rows are left to their own file."""
        return {
            "rows": self.rows, "classes": len(self.classes), "folds": self.folds, "seed": self.seed,
            "out_of_fold_accuracy": self.accuracy, "estimated_noise": self.noise, "suspects": len(self.suspects),
            "noise_matrix": self.noise_matrix, "quarantined": [q.to_dict() for q in self.quarantined],
        }  # fmt: skip


# -- reading -----------------------------------------------------------------------------------------------------------
def read_labelled(path: Path, text: str = "text", label: str = "label") -> tuple[list[LabelledRow], list[Quarantined]]:
    """The rows of a .jsonl file with their text and label fields; unusable rows are quarantined one by one.

    Raises:
        BadInputError: the file cannot be read, or no row of it has both fields.
    """
    rows: list[LabelledRow] = []
    bad: list[Quarantined] = []
    seen: Counter[str] = Counter()
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}", path=str(path)) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _row(line, number, text, label, seen)
        if isinstance(found, LabelledRow):
            rows.append(found)
        else:
            bad.append(Quarantined(f"{path.name}:{number}", str(number), *found))
    if not rows:
        fields = ", ".join(sorted(seen)[:20]) or "none"
        raise BadInputError(
            f"{path}: no row has a usable {text!r} and {label!r} (fields there: {fields}; {len(bad)} rows read): give "
            "--text and --label", quarantined=[q.to_dict() for q in bad[:10]],
        )  # fmt: skip
    return rows, bad


def _row(line: bytes, number: int, text: str, label: str, seen: Counter[str]) -> LabelledRow | tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return "invalid_json", str(error)[:200]
    if not isinstance(row, dict):
        return "not_an_object", type(row).__name__
    seen.update(row.keys())
    for field in (text, label):
        if row.get(field) is None:
            return "missing_field", field
    body, given = row[text], row[label]
    if not isinstance(body, str) or not body.strip():
        return "empty_text", text
    if not isinstance(given, (str, int)) or not str(given).strip():
        return "bad_label", f"{label}: {type(given).__name__}"
    return LabelledRow(number, body[:MAX_TEXT_CHARS], str(given).strip())


# -- the check ---------------------------------------------------------------------------------------------------------
def check_labels(
    rows: Sequence[LabelledRow], progress: Progress, folds: int = FOLDS, seed: int = 0,
    quarantined: Sequence[Quarantined] = (),
) -> LabelReport:  # fmt: skip
    """Rank the rows whose label is probably wrong. Deterministic for one seed.

    Raises:
        BadInputError: one class only, or a class with fewer different texts than ``folds``.
    """
    classes = tuple(sorted({row.label for row in rows}))
    number = {name: index for index, name in enumerate(classes)}
    given = np.array([number[row.label] for row in rows], dtype=np.int64)
    fold = deal_folds(rows, folds, seed)
    chances = out_of_fold([row.text for row in rows], given, fold, len(classes), seed, progress)
    joint = confident_joint(given, chances)
    margins = normalised_margins(given, chances)
    found = np.flatnonzero(suspicious(given, chances, joint))
    order = found[np.lexsort((found, margins[found]))]
    other = likeliest_other(given, chances)
    suspects = tuple(
        Suspect(
            rows[i].line, rows[i].text, rows[i].label, classes[other[i]], round(float(margins[i]), 6),
            round(float(chances[i, given[i]]), 6), round(float(chances[i, other[i]]), 6),
        )
        for i in order
    )  # fmt: skip
    accuracy = float((chances.argmax(1) == given).mean())
    noise = float(1 - np.trace(joint) / joint.sum())
    return LabelReport(
        len(rows), classes, folds, seed, round(accuracy, 4), round(noise, 4), _named(noise_matrix(joint), classes),
        suspects, tuple(quarantined),
    )  # fmt: skip


def deal_folds(rows: Sequence[LabelledRow], folds: int, seed: int) -> Ints:
    """A fold per row, [rows]: every class spread evenly, rows with the same text (case and space aside) together."""
    texts: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        texts.setdefault(" ".join(row.text.casefold().split()), []).append(index)
    groups: dict[str, list[list[int]]] = {row.label: [] for row in rows}
    for members in texts.values():
        counts = Counter(rows[i].label for i in members)
        groups[min(counts, key=lambda name: (-counts[name], name))].append(members)
    if len(groups) < 2:
        raise BadInputError(f"every row is labelled {next(iter(groups), '')!r}: there is no other label to suggest")
    few = {name: len(found) for name, found in sorted(groups.items()) if len(found) < folds}
    if few:
        listed = ", ".join(f"{name!r} {count}" for name, count in list(few.items())[:8])
        raise BadInputError(
            f"{len(few)} of {len(groups)} classes have fewer than {folds} different texts ({listed}): take them out, "
            "or give fewer --folds (2 at least)", classes=few,
        )  # fmt: skip
    picker, fold, at = random.Random(seed), np.zeros(len(rows), dtype=np.int64), 0  # noqa: S311 (no secret)
    for name in sorted(groups):
        picker.shuffle(groups[name])
        for members in groups[name]:
            fold[members] = at % folds
            at += 1
    return fold


def out_of_fold(texts: Sequence[str], given: Ints, fold: Ints, classes: int, seed: int, progress: Progress) -> Floats:
    """Probabilities [rows, classes] by models that did not see the row."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    chances = np.zeros((len(texts), classes))
    kinds = sorted(set(fold.tolist()))
    progress.stage("out-of-fold probabilities", len(kinds), "folds")
    for one in kinds:
        train, test = np.flatnonzero(fold != one).tolist(), np.flatnonzero(fold == one).tolist()
        vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=WORD, max_features=MAX_FEATURES)
        try:
            known = vectors.fit_transform([texts[i] for i in train])
        except ValueError as error:
            raise BadInputError(f"the texts hold no words to tell labels by: {error}") from error
        # One against the rest by liblinear: 2 s a fold for 77 classes, where the multinomial loss takes 37 s and, on
        # labels with errors in them, ranks worse.
        model = OneVsRestClassifier(LogisticRegression(C=C, solver="liblinear", random_state=seed))
        model.fit(known, given[train])
        chances[np.ix_(test, model.classes_)] = model.predict_proba(vectors.transform([texts[i] for i in test]))
        progress.advance()
    return chances


def confident_joint(given: Ints, chances: Floats) -> Floats:
    """Estimated number of rows with [given label, true label], [classes, classes]; rows sum to the given labels."""
    classes = chances.shape[1]
    passed = counted_for(given, chances)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (given[passed >= 0], passed[passed >= 0]), 1)
    # A class none of whose rows passed a threshold keeps its labels; otherwise its row could not be scaled.
    empty = counts.sum(1) == 0
    counts[empty, empty] = 1
    scaled: Floats = counts / counts.sum(1, keepdims=True) * np.bincount(given, minlength=classes)[:, None]
    return scaled


def counted_for(given: Ints, chances: Floats) -> Ints:
    """The class each row is counted for, [rows]: the likeliest of those whose threshold it passes; -1 for none."""
    classes = chances.shape[1]
    sums = np.bincount(given, weights=chances[np.arange(len(given)), given], minlength=classes)
    thresholds = sums / np.maximum(1, np.bincount(given, minlength=classes))
    over = chances >= thresholds - 1e-12
    best = np.where(over, chances, -1.0).argmax(1)
    return np.where(over.any(1), best, -1).astype(np.int64)


def suspicious(given: Ints, chances: Floats, joint: Floats) -> npt.NDArray[np.bool_]:
    """Which rows to report, [rows]: counted for another class, or pruned by noise rate (n of each kind of error, n as
    estimated, the likeliest first)."""
    passed = counted_for(given, chances)
    flagged = (passed >= 0) & (passed != given)
    for label in range(chances.shape[1]):
        members = np.flatnonzero(given == label)
        for true in np.flatnonzero(joint[label] >= 0.5):
            if true != label:
                gain = chances[members, true] - chances[members, label]
                worst = members[np.argsort(-gain, kind="stable")[: round(joint[label, true])]]
                flagged[worst[chances[worst, true] > chances[worst, label]]] = True
    return flagged


def likeliest_other(given: Ints, chances: Floats) -> Ints:
    """The likeliest class of each row other than its own label, int64 [rows].

    Args:
        given: the labels, int64 [rows].
        chances: probabilities, float [rows, classes].
    """
    others = chances.copy()
    others[np.arange(len(given)), given] = -1.0
    return others.argmax(1).astype(np.int64)


def normalised_margins(given: Ints, chances: Floats) -> Floats:
    """Probability of the given label less that of the likeliest other one, float [rows], each in [-1, 1]."""
    rows = np.arange(len(given))
    margins: Floats = chances[rows, given] - chances[rows, likeliest_other(given, chances)]
    return margins


def noise_matrix(joint: Floats) -> Floats:
    """P(given | true), [true, given]; a class that seems never true has no row of its own."""
    totals = joint.sum(0)
    shares: Floats = np.divide(joint, totals, out=np.zeros_like(joint), where=totals > 0).T
    return shares


def _named(matrix: Floats, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    return {
        true: {given: round(float(p), 4) for given, p in zip(classes, row, strict=True) if p >= 5e-5}
        for true, row in zip(classes, matrix, strict=True)
    }


# -- how far to trust it -----------------------------------------------------------------------------------------------
def flip_labels(rows: Sequence[LabelledRow], share: float, seed: int) -> tuple[list[LabelledRow], set[int]]:
    """The rows with ``share`` of the labels replaced by another one at random; and the lines that were changed."""
    classes = sorted({row.label for row in rows})
    if len(classes) < 2:
        raise BadInputError("labels cannot be flipped: there is one label only")
    picker = random.Random(seed)  # noqa: S311 (no secret)
    chosen = set(picker.sample(range(len(rows)), round(share * len(rows))))
    flipped = [
        LabelledRow(row.line, row.text, picker.choice([name for name in classes if name != row.label]))
        if index in chosen else row
        for index, row in enumerate(rows)
    ]  # fmt: skip
    return flipped, {rows[i].line for i in chosen}


def score(suspects: Sequence[Suspect], wrong: set[int], rows: int, at: Sequence[int]) -> dict[str, Any]:
    """How many of the lines known to be wrong were found.

    Returns:
        ``precision_at`` and ``recall_at`` per k, ``precision`` and ``recall`` of the whole list, ``average_precision``,
        and ``random``: the precision of a list in random order.
    """
    hits = np.array([one.line in wrong for one in suspects], dtype=np.int64)
    found = np.cumsum(hits)
    ranks = np.arange(1, len(hits) + 1)
    cuts = [k for k in at if 0 < k <= len(hits)]
    total = max(1, len(wrong))
    return {
        "wrong": len(wrong), "listed": len(hits), "random": round(len(wrong) / max(1, rows), 4),
        "precision_at": {str(k): round(float(found[k - 1] / k), 4) for k in cuts},
        "recall_at": {str(k): round(float(found[k - 1] / total), 4) for k in cuts},
        "precision": round(float(hits.mean()), 4) if len(hits) else 0.0,
        "recall": round(float(hits.sum() / total), 4),
        "average_precision": round(math.fsum((found / ranks)[hits == 1].tolist()) / total, 4) if len(hits) else 0.0,
    }  # fmt: skip
