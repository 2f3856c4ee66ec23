"""The risk of an index as a PNG: risk against coverage, and whether the confidence can be believed."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from data_jobs.retrieval.risk import CONFIDENCE, Evidence

BLUE, RED, GREY = "#3a6ea5", "#c8553d", "#888888"


def risk_plot(evidence: Evidence, max_risk: float, title: str) -> bytes:
    """A PNG (1,500 x 625): unsupported share of the answers and its upper bound over coverage, and a reliability
    diagram. The same evidence gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=125)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    _risk(figure.add_subplot(1, 2, 1), evidence, max_risk)
    _reliability(figure.add_subplot(1, 2, 2), evidence)
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _risk(axes: Any, evidence: Evidence, max_risk: float) -> None:
    points = [point for point in evidence.curve if point.answered]
    coverage = [point.coverage for point in points]
    share = [point.unsupported / point.answered for point in points]
    axes.plot(coverage, share, color=BLUE, linewidth=1.6, label="unsupported share of the answers")
    axes.plot(coverage, [p.bound for p in points], color=RED, linewidth=1.0, linestyle="--",
              label=f"upper bound ({CONFIDENCE:.0%} confidence)")  # fmt: skip
    axes.axhline(max_risk, color=GREY, linewidth=0.8, label=f"promised: {max_risk:.0%}")
    if promised := evidence.promise(max_risk):
        at = promised.point
        axes.plot([at.coverage], [at.bound], "o", color=RED, label=f"threshold {at.threshold:.2f}")
    axes.set_xlabel("coverage: answerable questions answered with support")
    axes.set_ylabel("risk")
    axes.set_ylim(0, min(1.0, max(4 * max_risk, 1.1 * max(share, default=0.0))))
    _plain(axes)


def _reliability(axes: Any, evidence: Evidence) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="calibrated")
    sure, right = [b["confidence"] for b in evidence.bins], [b["supported"] for b in evidence.bins]
    sizes = [6 + 60 * b["questions"] / max(1, len(evidence.judged)) for b in evidence.bins]
    axes.scatter(sure, right, s=sizes, color=BLUE, label=f"held-out questions, ECE {evidence.ece:.3f}")
    axes.set_xlabel("confidence")
    axes.set_ylabel("supported")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
