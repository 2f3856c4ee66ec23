"""A scaling law fitted to a sweep of short runs: the loss that a larger model, or more tokens, will come to.

    L(N, D) = E + A / N^a + B / D^b       (Hoffmann et al. 2022, approach 3; N parameters, D tokens, L in nats a token)

fitted by least squares of log loss with Huber's penalty. Where the points are too few to tell five numbers, a simpler
form is fitted (``FORMS``). Uncertainty is a bootstrap over residuals: refits to the fitted curve with the residuals
drawn anew. It knows the scatter of the points, not whether the law goes on beyond them; so a plan can be checked
against one larger run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cluster.core.errors import BadInputError

Values = npt.NDArray[np.float64]
BOOTSTRAPS, HUBER = 100, 1e-2
STARTS = (0.1, 0.3, 0.6)  # exponents that a fit begins with
MIN_SCATTER = 2e-3  # of log loss: two runs with other seeds differ by as much, however well a curve meets few points


@dataclass(frozen=True)
class Point:
    """One finished run: parameters, tokens seen, held-out loss (nats a token), and its seconds of stepping."""

    parameters: int
    tokens: int
    loss: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Form:
    """A law's shape: a sum of terms, and which points tell its numbers.

    Attributes:
        terms: of each its coefficient, its exponent and what that is of: ``("A", "a", "n")`` is A / N^a, ``("E", "",
            "")`` is E.
        fits: of (points, different N, different D).
    """

    terms: tuple[tuple[str, str, str], ...]
    fits: Callable[[int, int, int], bool]

    @property
    def name(self) -> str:
        """As one writes it."""
        return " + ".join(f"{c}/{of.upper()}^{e}" if e else c for c, e, of in self.terms)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its numbers: coefficients (kept as logarithms) and exponents."""
        return tuple(dict.fromkeys(name for c, e, _ in self.terms for name in (c, e) if name))

    def log_loss(self, numbers: Values, n: Values, d: Values) -> Values:
        """Log loss of each point; ``n`` and ``d`` are logarithms of parameters and tokens."""
        return np.logaddexp.reduce(self._logs(numbers, n, d))

    def slopes(self, numbers: Values, n: Values, d: Values) -> Values:
        """Derivatives of ``log_loss`` by its numbers, [points, numbers]."""
        logs = self._logs(numbers, n, d)
        weights = np.exp(logs - np.logaddexp.reduce(logs))
        found = np.zeros((len(n), len(self.names)))
        for weight, (coefficient, exponent, of) in zip(weights, self.terms, strict=True):
            found[:, self.names.index(coefficient)] += weight
            if exponent:
                found[:, self.names.index(exponent)] -= weight * (n if of == "n" else d)
        return found

    def _logs(self, numbers: Values, n: Values, d: Values) -> Values:
        value = dict(zip(self.names, numbers, strict=True))
        rows = [value[c] - (value[e] * (n if of == "n" else d) if e else 0 * n) for c, e, of in self.terms]
        return np.array(rows)


_E, _A, _B, _SAME = ("E", "", ""), ("A", "a", "n"), ("B", "b", "d"), ("B", "a", "d")
# The first that the points can tell is taken. Those of one variable serve only where the other did not vary.
FORMS: Final = (
    Form((_E, _A, _B), lambda p, n, d: p >= 7 and n >= 3 and d >= 3),
    Form((_E, _A, _SAME), lambda p, n, d: p >= 5 and n >= 2 and d >= 2),
    Form((_E, _A), lambda p, n, d: n >= 4 and d == 1),
    Form((_E, _B), lambda p, n, d: n == 1 and d >= 4),
    Form((_A,), lambda p, n, d: n == 3 and d == 1),
    Form((_B,), lambda p, n, d: n == 1 and d == 3),
)


@dataclass(frozen=True)
class Prediction:
    """A loss with the bounds between which 95 of 100 refits lie."""

    loss: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Rounded, for JSON."""
        return {"loss": round(self.loss, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True)
class Law:
    """A fitted law. ``numbers`` are those of its form, with E, A and B as logarithms; ``refits`` are the bootstrap's.
    ``scatter`` is the standard deviation of log loss around the curve."""

    form: Form
    numbers: tuple[float, ...]
    refits: tuple[tuple[float, ...], ...]
    scatter: float
    points: tuple[Point, ...]

    def loss(self, parameters: float, tokens: float) -> float:
        """The loss at N parameters and D tokens."""
        return float(_losses(self.form, self.numbers, parameters, tokens))

    def predict(self, parameters: float, tokens: float) -> Prediction:
        """The loss of one further run, with its bounds: the curve's uncertainty and a run's own scatter."""
        rng = np.random.default_rng(1)
        curves = np.array([_losses(self.form, numbers, parameters, tokens) for numbers in self.refits])
        runs = curves * np.exp(rng.normal(0.0, self.scatter, len(curves)))
        low, high = np.quantile(runs, (0.025, 0.975))
        middle = self.loss(parameters, tokens)
        return Prediction(middle, min(middle, float(low)), max(middle, float(high)))

    def coefficients(self) -> dict[str, dict[str, float]]:
        """E, A, B and the exponents of the form, each ``{"value", "low", "high"}`` (95 % of the refits)."""
        found = {}
        for place, name in enumerate(self.form.names):
            draws = np.array([numbers[place] for numbers in self.refits])
            values = (self.numbers[place], *np.quantile(draws, (0.025, 0.975)))
            plain = [math.exp(v) if name.isupper() else float(v) for v in values]
            found[name] = dict(zip(("value", "low", "high"), plain, strict=True))
        return found

    def best_split(self, flops: float, flops_a_token: Callable[[float], float]) -> tuple[float, float]:
        """(parameters, tokens) of least predicted loss for a budget of FLOPs.

        Args:
            flops_a_token: FLOPs of a token for a model of so many parameters.

        Raises:
            BadInputError: the sweep varied only one of the two, which says nothing about a trade between them.
        """
        if len({p.parameters for p in self.points}) < 2 or len({p.tokens for p in self.points}) < 2:
            raise BadInputError("the sweep varied parameters or tokens alone: both must vary to divide a budget")
        sizes = np.geomspace(min(p.parameters for p in self.points) / 10, 1e13, 2000)
        tokens = np.array([flops / flops_a_token(float(size)) for size in sizes])
        kept = tokens >= 1
        losses = _losses(self.form, self.numbers, sizes[kept], tokens[kept])
        best = int(np.argmin(losses))
        return float(sizes[kept][best]), float(tokens[kept][best])

    def to_dict(self) -> dict[str, Any]:
        """For the plan's JSON."""
        return {
            "form": self.form.name, "coefficients": self.coefficients(), "scatter": round(self.scatter, 5),
            "points": [vars(point) for point in self.points],
        }  # fmt: skip


def fit(points: Sequence[Point], bootstraps: int = BOOTSTRAPS, seed: int = 0) -> Law:
    """Fit the richest form that the points can tell.

    Raises:
        BadInputError: too few points, or losses that are no positive numbers.
    """
    if wrong := [p for p in points if not (math.isfinite(p.loss) and p.loss > 0 and p.parameters > 0 and p.tokens > 0)]:
        raise BadInputError(f"no scaling law fits a run without a positive loss, size and tokens: {wrong[0]}")
    sizes, lengths = len({p.parameters for p in points}), len({p.tokens for p in points})
    form = next((form for form in FORMS if form.fits(len(points), sizes, lengths)), None)
    if form is None:
        raise BadInputError(
            f"{len(points)} runs of {sizes} sizes and {lengths} lengths are too few for a scaling law: give 3 "
            "sizes, or 5 runs of 2 sizes and 2 lengths"
        )
    n, d = (np.log([getattr(p, name) for p in points]) for name in ("parameters", "tokens"))
    losses = np.log([p.loss for p in points])
    starts = [_start(form, n, d, losses, exponent) for exponent in STARTS]
    best = min((_refit(form, n, d, losses, start) for start in starts), key=lambda found: found[1])[0]
    residuals = losses - form.log_loss(best, n, d)
    spare = max(1, len(points) - len(form.names))
    scatter = max(MIN_SCATTER, math.sqrt(float((residuals**2).sum()) / spare))
    rng, curve = np.random.default_rng(seed), form.log_loss(best, n, d)
    refits = []
    for _ in range(bootstraps):
        # With few points their own residuals are too small and too few to draw from.
        drawn = rng.normal(0.0, scatter, len(points))
        refits.append(tuple(_refit(form, n, d, curve + drawn, best)[0]))
    return Law(form, tuple(best), tuple(refits), scatter, tuple(points))


def _refit(form: Form, n: Values, d: Values, losses: Values, start: Values) -> tuple[Values, float]:
    from scipy.optimize import least_squares

    bounds = [(0.01, 2.0) if name.islower() else (-20.0, 60.0) for name in form.names]
    if form.names[0] == "E":  # a floor above the best run's loss fits no curve that falls
        bounds[0] = (-20.0, float(losses.min()))
    low, high = (np.array(side) for side in zip(*bounds, strict=True))
    found = least_squares(
        lambda t: form.log_loss(t, n, d) - losses, np.clip(start, low + 1e-6, high - 1e-6),
        lambda t: form.slopes(t, n, d), bounds=(low, high), loss="huber", f_scale=HUBER, max_nfev=300,
    )  # fmt: skip
    return found.x, float(found.cost)


def _start(form: Form, n: Values, d: Values, losses: Values, exponent: float) -> Values:
    """A curve through the middle of the points that falls with ``exponent``."""
    level = float(np.median(losses)) - 0.7
    by_n, by_d = level + exponent * float(np.median(n)), level + exponent * float(np.median(d))
    values = {"E": float(losses.min()) - 0.7, "A": by_n, "B": by_d, "a": exponent, "b": exponent}
    return np.array([values[name] for name in form.names])


def _losses(form: Form, numbers: Sequence[float], parameters: Any, tokens: Any) -> Any:
    n, d = np.log(np.asarray(parameters, dtype=float)), np.log(np.asarray(tokens, dtype=float))
    return np.exp(form.log_loss(np.asarray(numbers), n, d))
