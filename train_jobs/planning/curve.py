"""The picture of a scaling law: points, curves, the planned run with its bounds, and the check."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from train_jobs.planning.scaling import Law


def scaling_curve(law: Law, target: dict[str, Any], check: dict[str, Any] | None = None) -> bytes:
    """A PNG (1,000 x 625) of loss over the FLOPs of training, both logarithmic.

    Args:
        target, check: as in the plan's report.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(8, 5), dpi=125)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sizes = sorted({point.parameters for point in law.points})
    for place, size in enumerate([*sizes, target["parameters"]]):
        planned = place == len(sizes)
        mine = sorted((p for p in law.points if p.parameters == size), key=lambda p: p.tokens)
        most = max(target["tokens"], *(p.tokens for p in law.points)) if planned else 2 * mine[-1].tokens
        least = min(p.tokens for p in law.points)
        tokens = np.geomspace(least, max(most, least * 1.01), 60)
        colour = "#c8553d" if planned else f"C{place}"
        axes.plot(6 * size * tokens, [law.loss(size, t) for t in tokens], color=colour, linewidth=1.2,
                  linestyle="--" if planned else "-")  # fmt: skip
        if not planned:
            axes.plot([6 * size * p.tokens for p in mine], [p.loss for p in mine], "o", color=colour, markersize=5,
                      label=f"{size:,} parameters")  # fmt: skip
    _with_bounds(axes, target, target["loss"], "#c8553d", f"planned: {target['loss']['loss']:.3f}")
    if check:
        _with_bounds(axes, check, check["predicted"], "#3a6ea5", f"check, predicted: {check['predicted']['loss']:.3f}")
        where = 6 * check["parameters"] * check["tokens"]
        axes.plot([where], [check["got"]], "*", color="#3a6ea5", markersize=12, label=f"check, got: {check['got']:.3f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("FLOPs of training (6 x parameters x tokens)")
    axes.set_ylabel("held-out loss (nats per token)")
    axes.set_title(f"L(N, D) = {law.form.name}, {len(law.points)} runs", fontsize=11)
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})  # the same plan gives the same bytes
    return out.getvalue()


def _with_bounds(axes: Any, run: dict[str, Any], loss: dict[str, float], colour: str, label: str) -> None:
    below, above = loss["loss"] - loss["low"], loss["high"] - loss["loss"]
    where = 6 * run["parameters"] * run["tokens"]
    axes.errorbar([where], [loss["loss"]], [[below], [above]], fmt="D", color=colour, capsize=4, label=label)
