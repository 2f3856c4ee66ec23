"""What a router learns from: questions with what both tiers made of them, on three sides that share no subject."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster.core.errors import BadInputError
from train_jobs.evaluation.routing import Outcomes
from train_jobs.recipes.rows import BadRowError, Row, Rows, read_rows, text_of

# What each side is for, and its share of the rows: to fit, to choose a threshold, to tell what came of both.
SIDES = {"train": 0.5, "tune": 0.25, "report": 0.25}
LEAST_SUBJECTS = 8  # of all sides: fewer leave a side with one


def read_outcomes(path: str) -> Rows:
    """The rows of a file, all of them in ``train``: subjects decide the sides (``sides_of``), whatever ``split`` says.

    Raises:
        BadInputError: the file cannot be read.
    """
    found = read_rows(path, parse, held_out=0.0, least=0)
    return Rows([*found.train, *found.held_out], [], found.sha256, found.refused)


def parse(row: Mapping[str, Any]) -> Row:
    """A row of {prompt, subject or set, weak_correct, strong_correct}, as RouteLLM's outcomes are written.

    Raises:
        BadRowError: something is missing or of another kind.
    """
    subject = text_of(row, "subject", optional=True) or text_of(row, "set", optional=True)
    if not subject:
        raise BadRowError("there is no subject")
    return {
        "key": subject, "question": text_of(row, "prompt"),
        "small": _quality(row, "weak_correct"), "large": _quality(row, "strong_correct"),
    }  # fmt: skip


def _quality(row: Mapping[str, Any], name: str) -> float:
    """How good an answer was: true or false, or a number from 0 to 1."""
    value = row.get(name)
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise BadRowError(f"there is no {name}" if value is None else f"{name} is {value!r:.40}, and must be 0 to 1")
    return float(value)


def outcomes_of(rows: Sequence[Row]) -> Outcomes:
    """What both tiers made of the rows' questions."""
    return Outcomes(
        np.array([row["small"] for row in rows], dtype=np.float64),
        np.array([row["large"] for row in rows], dtype=np.float64),
        np.array([row["key"] for row in rows], dtype=np.str_),
    )


def sides_of(subjects: Sequence[str]) -> dict[str, str]:
    """Which side each subject is on: in the order of their hashes, each joins the side that lacks most of its share.

    Args:
        subjects: of each row.
    """
    counts = Counter(subjects)
    order = sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest())
    have = dict.fromkeys(SIDES, 0)
    found = {}
    for name in order:
        side = min(SIDES, key=lambda one: have[one] / SIDES[one])
        have[side] += counts[name]
        found[name] = side
    return found


def check_sides(sides: Mapping[str, Outcomes], path: str) -> None:
    """Refuse rows that nothing can be learnt from, or told of.

    Raises:
        BadInputError: too few subjects, or on one side the larger tier is no better, or one tier always suffices.
    """
    subjects = sum(len(np.unique(own.subjects)) for own in sides.values())
    if subjects < LEAST_SUBJECTS:
        raise BadInputError(
            f"{path} has good rows of {subjects} subjects, and a router needs {LEAST_SUBJECTS}: the subjects it is "
            "judged by must be others than those it learnt from", path=path,
        )  # fmt: skip
    for side, own in sides.items():
        if own.gap <= 0 or own.suffices.all() or not own.suffices.any():
            raise BadInputError(
                f"{path}: of the {len(own.small)} rows on the side {side} the larger tier is better by {own.gap:.3f} "
                f"in the mean, and the small one suffices for {own.suffices.mean():.0%}: there is nothing to route",
                path=path,
            )  # fmt: skip
