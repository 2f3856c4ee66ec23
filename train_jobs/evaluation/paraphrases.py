"""What answering by an earlier, alike question would give: hits against wrong hits, by how alike it has to be.

Questions come one after the other, as to a cache that starts empty. The nearest one that was answered and kept is
looked for, by the cosine of what embeds questions; alike enough, its answer is given (wrong, where it is of another
label), else the question is answered and kept. Whatever else has to hold before an answer is given to another question
is the caller's: such pairs are no nearer than ``APART``. Whoever takes a threshold from these figures takes it from
other questions than it is judged by: ``judged`` does.

A stream of requests for a cache to meet is made here too, ``requests``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.core.errors import BadInputError
from train_jobs.evaluation.metrics import Rate

Vectors = npt.NDArray[np.float32]
THRESHOLDS = tuple(round(0.5 + 0.01 * step, 2) for step in range(50))
SEED = 7
FAULTS = ("wrong", "worse")
APART = -1.0  # the cosine of two of which neither is given the answer to the other


@dataclass(frozen=True)
class Labelled:
    """Questions, and for each the label that those with the same answer share."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, most: int | None = None, seed: int = SEED) -> Labelled:
        """The rows of a ``.jsonl`` file with ``text`` and ``label``, in an order drawn with ``seed``, at most so many.

        Raises:
            BadInputError: a row lacks one of the two.
        """
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if any(not isinstance(row, dict) or not {"text", "label"} <= row.keys() for row in rows):
            raise BadInputError(f"{path}: every row needs text and label")
        drawn = np.random.default_rng(seed).permutation(len(rows))[:most]
        return cls(tuple(rows[n]["text"] for n in drawn), tuple(rows[n]["label"] for n in drawn))

    @property
    def repeats(self) -> float:
        """Share of the questions before which one with the same label came: no cache hits more of them rightly."""
        return 1 - len(set(self.labels)) / len(self.labels) if self.labels else 0.0


@dataclass(frozen=True)
class Point:
    """What one threshold gives: of ``questions`` so many ``hits``, of those so many ``wrong`` (of another label) and so
    many ``worse`` (than the answer that the question would have been given itself)."""

    alike: float
    questions: int
    hits: int
    wrong: int
    worse: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON: shares with 95 % intervals, ``hits`` of the questions, ``wrong`` and ``worse`` of the hits."""
        shares = {
            "hits": (self.hits, self.questions),
            "wrong": (self.wrong, self.hits),
            "worse": (self.worse, self.hits),
        }
        return {"alike": self.alike, **{name: Rate(*share).to_dict() for name, share in shares.items()}}


@dataclass(frozen=True)
class Held:
    """Questions held against each other.

    Attributes:
        labels: of each.
        cosines: float32 [n, n]; ``APART`` in a row where its question may not be given the answer to the column's.
        worse: bool [n, n], where the column's answer is worse for the row's question than its own; none where None.
    """

    labels: tuple[str, ...]
    cosines: Vectors
    worse: npt.NDArray[np.bool_] | None = None

    @property
    def curve(self) -> list[Point]:
        """What every threshold gives."""
        return [replay(self, alike) for alike in THRESHOLDS]


def replay(held: Held, alike: float) -> Point:
    """One run through the questions.

    Args:
        alike: least cosine of a hit.
    """
    kept = np.empty(len(held.labels), dtype=np.int64)
    count = hits = wrong = worse = 0
    for at, to_others in enumerate(held.cosines):
        there = to_others[kept[:count]]
        nearest = int(there.argmax()) if count else -1
        if count and there[nearest] >= alike:
            given = kept[nearest]
            hits += 1
            wrong += held.labels[given] != held.labels[at]
            worse += held.worse is not None and bool(held.worse[at, given])
        else:
            kept[count] = at
            count += 1
    return Point(alike, len(held.labels), hits, wrong, worse)


def best(points: Sequence[Point], most: float, fault: str = "wrong") -> Point | None:
    """The point with most hits of which at most the share ``most`` has a fault (``wrong`` or ``worse``); None where no
    threshold keeps it."""
    good = [point for point in points if point.hits and getattr(point, fault) <= most * point.hits]
    return max(good, key=lambda point: (point.hits, point.alike), default=None)


def judged(chosen_on: Held, judged_on: Held, most: float = 0.01) -> dict[str, Any]:
    """Both curves, and what the thresholds chosen on the first questions give on the second.

    Args:
        most: share of the hits that may be wrong, or worse.

    Returns:
        Plain JSON; ``chosen`` by each of the two, null where no threshold keeps it.
    """
    curves = {"chosen_on": chosen_on.curve, "judged_on": judged_on.curve}
    chosen = {}
    for fault in FAULTS:
        found = best(curves["chosen_on"], most, fault)
        there = next((point for point in curves["judged_on"] if found and point.alike == found.alike), None)
        chosen[fault] = there and there.to_dict()
    return {
        "most": most,
        "chosen": chosen,
        "curves": {name: [point.to_dict() for point in points] for name, points in curves.items()},
    }


def requests(questions: Sequence[str], count: int, repeat: float, seed: int = SEED) -> list[str]:
    """A stream of requests of which the share ``repeat`` asks word for word what one before it asked (the more often
    the more it was asked: Simon 1955, "On a class of skew distribution functions"), the others the next question.

    Raises:
        ValueError: there are too few questions.
    """
    draw, fresh, made = np.random.default_rng(seed), iter(questions), list[str]()
    for _ in range(count):
        again = made and draw.random() < repeat
        made.append(made[draw.integers(len(made))] if again else next(fresh, ""))
        if not made[-1]:
            raise ValueError(f"{len(questions)} questions are too few for {count} requests")
    return made


def picture(curves: dict[str, list[dict[str, Any]]]) -> bytes:
    """Curves (points as JSON, by name) as a PNG: share of hits over the share of them that is wrong."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in curves.items():
        there = [point for point in points if point["hits"]["hits"]]
        axes.plot([p["wrong"]["rate"] for p in there], [p["hits"]["rate"] for p in there], marker=".", label=name)
    axes.set(xlabel="wrong, of the hits", ylabel="hits, of the questions", xlim=(0, None), ylim=(0, 1))
    axes.axvline(0.01, color="grey", linewidth=0.8)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})  # the same curves give the same bytes
    return out.getvalue()
