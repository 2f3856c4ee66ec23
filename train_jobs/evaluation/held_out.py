"""Evaluation of a model on held-out documents, against the baseline and the quote tier: what the gate decides on.

An answer scores by token F1 with the gold sentence, of the sentences it says (not of names and markers around them); an
abstention on an answerable question scores 0. Intervals are percentile bootstrap intervals over documents (Efron 1979):
questions about one document are not independent of each other.
"""

from __future__ import annotations

import json
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cluster.core.records import Manifest
from cluster.core.sections.train import GateSection
from cluster.core.storage import Store
from train_jobs.answering.prompt import read_points
from train_jobs.evaluation.generate import Generate, Said
from train_jobs.evaluation.metrics import Rate, token_f1
from train_jobs.evaluation.slices import by_slice
from train_jobs.recipes.calibration import expected_error, reliability

Row = Mapping[str, Any]
BATCH = 16
RIGHT = 0.5  # the score from which an answer counts as right, where it must be one or the other
TIMED = 24  # prompts given one at a time, for the latency
OWN, FEWEST_OWN = "own", 50  # the kind of rows that documents' own questions make; fewer decide nothing
BAND_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RESAMPLES = 4000


@dataclass(frozen=True)
class HeldOutReport:
    """What one evaluation found.

    Attributes:
        n: rows judged.
        answerable: ``n`` and the mean scores of ``model``, ``baseline`` (the first sentence of the first passage, where
            the passages support an answer) and ``quote``; ``shown``: the best a model could have scored by pointing
            at one of the sentences shown; ``abstained``, ``quote_abstained``: shares of wrong
            refusals; ``unreadable``: share of completions that made no sense.
        unanswerable: ``n``, the shares refused by model (``abstained``) and quote tier (``quote_abstained``), and
            ``kinds``: the model's by kind of question.
        difference: mean of (model - baseline) over the answerable questions, with its 95 % interval ``low``, ``high``;
            ``against_quote`` the same against the quote tier.
        bands: by support probability, ``{low, high, n, model, quote}``: mean score, where a right refusal scores 1 and
            an answer to what has none 0; of answerable questions only those in people's own words, where there are
            enough. The router weighs the tiers by these.
        slices: the same scores by part of the questions (``slices.by_slice``).
        calibration: how far the probability that the model gave what it said is from how often that was right (a score
            of ``RIGHT`` or more), over the supported questions: ``n``, ``ece``, ``bins`` of a reliability diagram;
            empty where probabilities are not known.
        ms: milliseconds of one answer of the model, one at a time: ``p50``, ``p95``, and ``model`` (the mean).
    """

    n: int
    answerable: dict[str, float]
    unanswerable: dict[str, Any]
    difference: dict[str, float | None]
    against_quote: dict[str, float | None]
    bands: tuple[dict[str, float], ...]
    slices: dict[str, Any]
    calibration: dict[str, Any]
    ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "bands": list(self.bands)}


def load_rows(store: Store, examples: Manifest, section: GateSection) -> list[dict[str, Any]]:
    """The held-out rows of an examples artefact: at most ``section.questions`` answerable and ``section.unanswerable``
    others.

    Raises:
        IntegrityError: the artefact is damaged.
    """
    store.verify(examples)
    data = store.read(posixpath.join(store.artefact(examples), "held_out.jsonl")).decode()
    rows = [json.loads(line) for line in data.splitlines()]
    answerable = [row for row in rows if row["answerable"]][: section.questions]
    return answerable + [row for row in rows if not row["answerable"]][: section.unanswerable]


@dataclass(frozen=True)
class Heard:
    """What a model said to every row.

    Attributes:
        points: places of the sentences it answered with; none where it abstained, None where it made no sense.
        probabilities: that it said so, None where that is not known.
        ms: as ``HeldOutReport.ms``.
    """

    points: list[list[int] | None]
    probabilities: list[float | None]
    ms: dict[str, float]


def evaluate(rows: Sequence[Row], generate: Generate, section: GateSection) -> HeldOutReport:
    """Let a pointing model answer every row's prompt and count.

    Args:
        rows: held-out examples (``train_jobs.examples.rows.Row`` as plain data).
        generate: prompts to completions, special tokens kept.
        section: says how many questions are expected; fewer are judged all the same, and the gate sees how many.
    """
    rows = list(rows)[: section.questions + section.unanswerable]
    return counted(rows, hear(rows, generate))


def hear(
    rows: Sequence[Row], generate: Generate, prompt: Callable[[Row], str] = lambda row: str(row["prompt"]),
    read: Callable[[Row, str], list[int] | None] = lambda row, text: read_points(text, len(row["sentences"])),
) -> Heard:  # fmt: skip
    """Let a model answer every row.

    Args:
        prompt: what it is asked of a row; read: which of the row's sentences a completion answers with.
    """
    completions, ms = _completions([prompt(row) for row in rows], generate)
    points = [_in_service(row, read(row, one.text)) for row, one in zip(rows, completions, strict=True)]
    return Heard(points, [one.probability for one in completions], ms)


def counted(rows: Sequence[Row], heard: Heard) -> HeldOutReport:
    """The report on what a model said to these rows."""
    said, ms = heard.points, heard.ms
    model = scores(rows, heard)
    quote = [_score(row, row["quote"]["sentence"] if row["quote"]["grounded"] else None) for row in rows]
    asked = [place for place, row in enumerate(rows) if row["answerable"]]
    foreign = [place for place, row in enumerate(rows) if not row["answerable"]]
    baseline = {place: _baseline_score(rows[place]) for place in asked}
    documents = [rows[place]["document"] for place in asked]
    return HeldOutReport(
        n=len(rows),
        answerable={
            "n": len(asked),
            "model": _mean([model[place] for place in asked]),
            "baseline": _mean(list(baseline.values())),
            "quote": _mean([quote[place] for place in asked]),
            "shown": _mean([_best(rows[place]) for place in asked]),
            "abstained": _mean([not said[place] for place in asked]),
            "quote_abstained": _mean([not rows[place]["quote"]["grounded"] for place in asked]),
            "unreadable": _mean([points is None for points in said]),
        },
        unanswerable={
            "n": len(foreign),
            "abstained": _mean([not said[place] for place in foreign]),
            "quote_abstained": _mean([not rows[place]["quote"]["grounded"] for place in foreign]),
            "interval": list(Rate.of(not said[place] for place in foreign).interval),
            "kinds": {
                kind: _mean([not said[place] for place in foreign if rows[place]["kind"] == kind])
                for kind in sorted({rows[place]["kind"] for place in foreign})
            },
        },
        difference=paired([model[place] - baseline[place] for place in asked], documents),
        against_quote=paired([model[place] - quote[place] for place in asked], documents),
        bands=_bands(rows, model, quote),
        slices=by_slice(rows, model),
        calibration=_calibration(rows, heard.probabilities, model),
        ms=ms,
    )


def scores(rows: Sequence[Row], heard: Heard) -> list[float]:
    """Of each row the F1 of what was said with the gold sentence; where there is none to find, 1 for an abstention."""
    return [_said_score(row, points) for row, points in zip(rows, heard.points, strict=True)]


def paired(differences: Sequence[float], groups: Sequence[str], level: float = 0.95) -> dict[str, float | None]:
    """Mean of paired differences with its percentile bootstrap interval of ``level``, resampling whole groups. All None
    where there are none."""
    if not differences:
        return {"mean": None, "low": None, "high": None}
    names, which = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(which, weights=np.asarray(differences, dtype=np.float64))
    counts = np.bincount(which).astype(np.float64)
    picks = np.random.default_rng(0).integers(0, len(names), size=(RESAMPLES, len(names)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(means, (50 * (1 - level), 50 * (1 + level)))
    return {"mean": float(np.mean(differences)), "low": float(low), "high": float(high)}


def _completions(prompts: list[str], generate: Generate) -> tuple[list[Said], dict[str, float]]:
    """All completions; the first few prompts go alone, which is what a request costs."""
    times: list[float] = []
    made: list[Said] = []
    for prompt in prompts[:TIMED]:
        began = time.perf_counter()
        made += generate([prompt])
        times.append((time.perf_counter() - began) * 1000)
    for at in range(len(made), len(prompts), BATCH):
        made += generate(prompts[at : at + BATCH])
    warm = np.asarray(times[1:] or times or [0.0])  # the first one warms up
    p50, p95 = np.percentile(warm, (50, 95))
    return made, {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "model": round(float(warm.mean()), 2)}


def _in_service(row: Row, points: list[int] | None) -> list[int] | None:
    """What an answer comes to in the service, where no tier answers what the passages do not support."""
    return points if row["supported"] or points is None else []


def _said_score(row: Row, points: list[int] | None) -> float:
    return _score(row, " ".join(row["sentences"][point] for point in points) if points else None)


def _score(row: Row, text: str | None) -> float:
    """F1 with the gold sentence; without an answer 0 on an answerable question and 1 on another."""
    if not row["answerable"]:
        return float(text is None)
    return token_f1(text, row["gold_sentence"]) if text else 0.0


def _baseline_score(row: Row) -> float:
    """Of the first sentence of the first passage, behind the same door as the model: were it let off what no tier may
    answer, a model would be judged by how careful the search is."""
    return token_f1(row["baseline"], row["gold_sentence"]) if row["supported"] else 0.0


def _best(row: Row) -> float:
    shown = row["sentences"] if row["supported"] else ()
    return max((token_f1(text, row["gold_sentence"]) for text in shown), default=0.0)


def _bands(rows: Sequence[Row], model: Sequence[float], quote: Sequence[float]) -> tuple[dict[str, float], ...]:
    """Of answerable questions only those in people's own words, where there are enough: rules ask in the documents'
    words, which a model learns and people do not use."""
    own = sum(row["kind"] == OWN for row in rows) >= FEWEST_OWN
    asked = [(place, row) for place, row in enumerate(rows) if not (own and row["answerable"]) or row["kind"] == OWN]
    bands = []
    for low, high in pairwise(BAND_EDGES):
        inside = [p for p, row in asked if low <= row["support"] < high or row["support"] == high == 1.0]
        means = {name: _mean([scores[p] for p in inside]) for name, scores in (("model", model), ("quote", quote))}
        bands.append({"low": low, "high": high, "n": len(inside), **means})
    return tuple(bands)


def _calibration(rows: Sequence[Row], probabilities: Sequence[float | None], scores: Sequence[float]) -> dict[str, Any]:
    """Where a tier must not answer what the model says does not count."""
    known = [
        (chance, score >= RIGHT)
        for row, chance, score in zip(rows, probabilities, scores, strict=True)
        if chance is not None and row["supported"]
    ]
    if not known:
        return {}
    bins = reliability(np.array([chance for chance, _ in known]), np.array([right for _, right in known]))
    return {"n": len(known), "ece": expected_error(bins), "bins": bins}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
