"""The card of safety heads and its picture: what they were made of, and what they are worth across sets."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from train_jobs.publishing.card import table

WHAT = (
    "Linear heads over the vector of the safety encoder: how much a text looks like an injection into a prompt, or "
    "like a harmful request."
)
ACROSS = "Each row was scored by a model that saw no row of its set"
JUDGED = (
    "The heads learnt from texts written for them, and from decisions of people where there are some. Every other row "
    "only judged: one model that saw none of them scored them all; what was written was scored by one that saw nothing "
    "of its set"
)
LIMITS = (
    "What was measured within the sets says little: sets have styles of their own. Numbers across sets count.",
    "A head that misses its bar flags and does not block. The rules of the guard `rules` stand beside it.",
    "Texts are read in pieces of some hundred characters; what only several of them say together is not seen.",
)


def over_blocking(heads: Mapping[str, Mapping[str, Any]], title: str) -> bytes:
    """A PNG (1,000 x 625) of recall over what is flagged of ordinary text, at each threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=125)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (category, report) in enumerate(heads.items()):
        points = report["curve"]
        for style, part in (("-", "flagged_business"), ("--", "flagged_look_alike")):
            if points and part in points[0]:
                label = f"{category}, {part.removeprefix('flagged_').replace('_', '-')}"
                axes.plot(
                    [p[part] for p in points], [p["recall"] for p in points], style, color=f"C{place}", label=label
                )
    axes.set_xlabel("share of benign text that is flagged")
    axes.set_ylabel("recall")
    axes.set_xlim(-0.005, 0.3)
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
    """The card as Markdown, out of report.json."""
    heads = report["heads"]
    found = [
        f"# Safety heads: {name}", WHAT, "## Made from",
        table(("", ""), [
            ("version", report["version"]), ("data", report["inputs"]["data"]),
            ("encoder", report["inputs"]["encoder"]), ("licence of the data", report["licence"] or "not said"),
        ]),
        f"{JUDGED if report['inputs'].get('judge') else ACROSS}; half of the rows chose the threshold, the other half "
        "gave these numbers.",
        "## What they are worth",
        table(("head", "may", "AUROC across sets", "within sets", "recall", "precision", "business text flagged",
               "look-alikes flagged", "of the worst set", "bar"), [
            (category, "block" if own["passed"] else "flag only", own["measured"]["auroc"], own["in_domain"]["auroc"],
             own["measured"]["recall"], own["precision"], own["measured"]["business"], own["measured"]["look_alike"],
             own["measured"]["worst_set"],
             ", ".join(f"{name} {value}" for name, value in own["bar"].items()))
            for category, own in heads.items()
        ]),
        "![Recall over what is flagged](curve.png)",
        *(part for category, own in heads.items() for part in (
            f"### {category}: share flagged, by set",
            table(("set", "label", "rows", "flagged"), [
                (one, side, value["rows"], value["flagged"])
                for one, sides in own["by_set"].items() for side, value in sides.items()
            ]),
        )),
        "## Limits", "\n".join(f"- {line}" for line in LIMITS),
    ]  # fmt: skip
    return "\n\n".join(found) + "\n"
