"""The card of a router and its picture: what it was made of, what it is worth on subjects nobody tuned it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from train_jobs.publishing.card import table

WHAT = (
    "Says how likely the small tier's answer to a question is as good as the large one's, from the question alone: a "
    "linear model over the vector of the question and counts of its wording."
)
LIMITS = (
    "It learnt from one pair of models and one kind of questions. What it says of other tiers is a guess until rows of "
    "theirs are handed in.",
    "It has not seen the passages that a question finds: support, abstention and the gates' scores stand above it.",
)


def cost_quality(curves: Mapping[str, Sequence[Mapping[str, float]]], ends: tuple[float, float], title: str) -> bytes:
    """A PNG (1,000 x 625) of quality over cost.

    Args:
        curves: by name, points with ``cost`` and ``quality``.
        ends: quality of the small tier alone, and of the large one; chance is the line between them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=125)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], ends, "--", color="#888888", linewidth=1.2, label="chance")
    for place, (name, points) in enumerate(curves.items()):
        axes.plot([p["cost"] for p in points], [p["quality"] for p in points], color=f"C{place}", label=name,
                  linewidth=2.2 if not place else 1.4)  # fmt: skip
    axes.plot([0, 1], ends, "o", color="#444444", markersize=5)
    axes.annotate("small tier", (0, ends[0]), textcoords="offset points", xytext=(6, -12), fontsize=8)
    axes.annotate("large tier", (1, ends[1]), textcoords="offset points", xytext=(-48, 6), fontsize=8)
    axes.set_xlabel("cost: share of the questions that go to the large tier")
    axes.set_ylabel("mean quality of the answers")
    axes.set_title(title, fontsize=11)
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})  # the same rows give the same bytes
    return out.getvalue()


def render(name: str, report: Mapping[str, Any]) -> str:
    """The card as Markdown, out of a router's report.json."""
    judged = report["report"]
    found = [
        f"# Router: {name}", WHAT, "## Made from",
        table(("", ""), [
            ("data", report["inputs"]["data"]), ("embedder", report["inputs"]["embedder"]),
            ("licence of the data", report["licence"] or "not said"),
            *((f"side {side}", f"{own['rows']:,} questions of {own['subjects']} subjects")
              for side, own in report["sides"].items()),
        ]),
        "No subject is on two sides. The model was fitted on train; its settings were chosen by leaving subjects of "
        "that side out; report was looked at once.",
        "## What it is worth",
        table(("router", "APGR", "95 % interval over subjects"), [
            (one, value["value"], _interval(value)) for one, value in judged["apgr"].items()
        ]),
        table(("better than", "by", "95 % interval over subjects"), [
            (one, value["value"], _interval(value)) for one, value in judged["difference"].items()
        ]),
        f"Calibration error (ECE) {judged['ece']:.3f}: it said {judged['said']:.1%} suffice in the mean, and "
        f"{judged['suffices']:.1%} did. {report['verdict']}",
        "![Quality over cost](curve.png)",
        table(tuple(judged["curve"][0]), [tuple(row.values()) for row in judged["curve"]]),
        "## Limits", "\n".join(f"- {line}" for line in LIMITS),
    ]  # fmt: skip
    return "\n\n".join(found) + "\n"


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['low']:.3f} to {value['high']:.3f}"
