"""The card of an adaptation and its picture: what search found before and after, and what the gate said of it."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from train_jobs.publishing.card import table

WHAT = (
    "A change of question vectors, learnt from questions that rules made of the collection's own documents. Documents "
    "keep their vectors. It decides in which order passages are found, not how sure an answer is."
)
LIMITS = (
    "Rules make plainer questions than people do: a gain on made questions need not be one on yours. Hand in questions "
    "that people asked (`--questions`): they judge too, and must gain as well.",
    "Questions that search as it stands did not find again were dropped, also of those that judge.",
    "Documents that say the same on both sides of the split would flatter the figures; preparing a corpus drops them.",
)
SETS = {"held_out": "made, held-out documents", "otherwise": "of these, in a manner not learnt", "people": "people's",
        "shipped": "shipped with the product"}  # fmt: skip


def before_and_after(report: Mapping[str, Any], title: str) -> bytes:
    """A PNG (1,000 x 625) of the reciprocal rank before and after with the interval of the difference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=125)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    shown = [name for name in SETS if report.get(name) and report[name]["questions"]]
    for line, name in enumerate(shown):
        own = report[name]["mrr"]
        left.plot([own["before"], own["after"]], [line, line], "-", color="0.7")
        left.plot(own["before"], line, "o", color="0.5", label="stock" if not line else None)
        left.plot(own["after"], line, "o", color="C0", label="learnt" if not line else None)
        right.plot([own["low"], own["high"]], [line, line], "-", color="C0", linewidth=2)
        right.plot(own["mean"], line, "o", color="C0")
    right.axvline(0, color="0.4", linewidth=1)
    for axes, what in ((left, "mean reciprocal rank"), (right, "difference, with its interval")):
        axes.set_xlabel(what)
        axes.set_yticks(range(len(shown)), [SETS[name] for name in shown] if axes is left else [""] * len(shown))
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(visible=True, axis="x", alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    if shown:
        left.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})  # the same report gives the same bytes
    return out.getvalue()


def rows_of(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lines of a table: questions, how many, reciprocal rank and recall before, after, and the difference."""
    found = []
    for name, label in SETS.items():
        own = report.get(name)
        if not own or not own["questions"]:
            continue
        parts = [
            f"{own[m]['before']:.3f} → {own[m]['after']:.3f} ({own[m]['mean']:+.4f} "
            f"[{own[m]['low']:+.4f}, {own[m]['high']:+.4f}])"
            for m in ("mrr", "recall")
        ]  # fmt: skip
        found.append((label, str(own["questions"]), *parts))
    return found


COLUMNS = ("questions", "number", "reciprocal rank", "among the first five")


def render(report: Mapping[str, Any]) -> str:
    """The card as Markdown, out of report.json."""
    decision, counts = report["decision"], report["counts"]
    return "\n\n".join([
        f"# Adaptation of {report['collection']}", WHAT, f"**{decision['reason']}**", "## Made from",
        table(("", ""), [(name, value) for name, value in report["inputs"].items()]),
        table(("counted", ""), [(name.replace("_", " "), value) for name, value in counts.items()]),
        "## Before and after",
        f"Means over questions; intervals of {report['held_out']['level']:.1%} resample whole documents (try "
        f"{report['tries']} on these documents).",
        table(COLUMNS, rows_of(report)), "![Before and after](before_and_after.png)", "## The gate",
        table(("check", "value", "threshold", "verdict"), [
            (check["name"], "-" if check["value"] is None else f"{check['value']:.4f}", f"{check['threshold']:.4f}",
             "ok" if check["passed"] else check["reason"])
            for check in decision["checks"]
        ]),
        "## Limits", "\n".join(f"- {line}" for line in LIMITS),
    ]) + "\n"  # fmt: skip
