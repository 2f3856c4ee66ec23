"""Whether a model's probabilities mean what they say: calibration error, reliability diagram, temperature.

Guo et al. 2017 ("On calibration of modern neural networks"): the expected calibration error weighs the gap between
confidence and accuracy of each bin; one temperature, fitted on held-out logits by likelihood, repairs most of it and
changes no answer. Pure: arrays in, numbers out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.core.errors import BadInputError

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
BINS = 15
LOW, HIGH = 0.05, 20.0  # temperatures that a fit looks at


@dataclass(frozen=True)
class Bin:
    """Cases of a confidence from ``low`` to ``high``: how many, their mean confidence, and the share that was right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """``ece``: expected calibration error, 0 to 1. ``nll``: mean negative log-likelihood of what was right (nats)."""

    n: int
    ece: float
    nll: float
    accuracy: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "bins": [asdict(one) for one in self.bins]}


def calibration(
    logits: Values, labels: npt.NDArray[np.int64], temperature: float = 1.0, bins: int = BINS
) -> Calibration:
    """How well softmax(logits / temperature) is calibrated: the confidence is that of the most probable class.

    Args:
        logits: [n, classes]; for a yes-or-no score s give [[0, s]]. labels: [n], the right classes.

    Raises:
        BadInputError: no cases, other shapes, or numbers that are not finite.
    """
    _check(logits, labels)
    logs = _log_softmax(logits / temperature)
    confidence, right = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    where = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, bins - 1)
    found, ece = [], 0.0
    for place in range(bins):
        mine = where == place
        if not mine.any():
            continue
        mean, share = float(confidence[mine].mean()), float(right[mine].mean())
        found.append(Bin(float(edges[place]), float(edges[place + 1]), int(mine.sum()), mean, share))
        ece += mine.mean() * abs(mean - share)
    nll = float(-logs[np.arange(len(labels)), labels].mean())
    return Calibration(len(labels), float(ece), nll, float(right.mean()), tuple(found))


def fit_temperature(logits: Values, labels: npt.NDArray[np.int64]) -> float:
    """The temperature of least negative log-likelihood, between ``LOW`` and ``HIGH``; to be fitted on cases that are
    not judged afterwards.

    Raises:
        BadInputError: as ``calibration``.
    """
    from scipy.optimize import minimize_scalar

    _check(logits, labels)
    rows = np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        return float(-_log_softmax(logits / np.exp(log_temperature))[rows, labels].mean())

    found = minimize_scalar(nll, bounds=(np.log(LOW), np.log(HIGH)), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def reliability_diagram(before: Calibration, after: Calibration | None = None, title: str = "") -> bytes:
    """A PNG of accuracy over confidence; ``after`` is the same with a temperature."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5.5), dpi=125)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--", label="calibrated")
    for found, colour, name in ((before, "#c8553d", "as it is"), (after, "#3a6ea5", "with temperature")):
        if found is not None:
            sizes = [20 + 200 * one.n / found.n for one in found.bins]
            places = [one.confidence for one in found.bins], [one.accuracy for one in found.bins]
            axes.plot(*places, color=colour, linewidth=1.2)
            axes.scatter(*places, s=sizes, color=colour, alpha=0.7, label=f"{name}: ECE {found.ece:.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that is right")
    axes.set_title(title, fontsize=11)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _log_softmax(logits: Values) -> Values:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _check(logits: Values, labels: npt.NDArray[np.int64]) -> None:
    if logits.ndim != 2 or not len(logits) or labels.shape != (len(logits),):
        raise BadInputError(f"calibration wants logits [n, classes] and labels [n], not {logits.shape}, {labels.shape}")
    if not np.isfinite(logits).all() or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise BadInputError("calibration wants finite logits and labels that are classes of them")
