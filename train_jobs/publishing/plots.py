"""Loss curves as PNG, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

STAGE_NAMES = {"pretrain": "Pretraining", "finetune": "Fine-tuning"}
SERIES = (("train_loss", "training", "#3a6ea5"), ("held_out_loss", "held-out documents", "#c8553d"))
MAX_POINTS = 2_000


def loss_curve(rows: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """A PNG (1,600 x 800 for two stages) of training and held-out loss, one panel a stage.

    Args:
        rows: dicts with ``step``, and ``train_loss`` and ``held_out_loss`` where they were measured; ``stage`` tells
            the panels apart, ``tokens`` (seen so far) gives a second axis.
        title: above the panels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        stages.setdefault(str(row.get("stage") or ""), []).append(row)
    panels = list(stages.items()) or [("", [])]
    figure = Figure(figsize=(1.5 + 5.25 * max(len(panels), 1), 5), dpi=125 if len(panels) < 2 else 133)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    for place, (stage, points) in enumerate(panels, 1):
        _panel(figure.add_subplot(1, len(panels), place), stage, points)
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})  # the same rows give the same bytes
    return out.getvalue()


def loss_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """A PNG of several runs in one panel: held-out loss as a line, training loss thin behind it.

    Args:
        runs: rows as for ``loss_curve``, by the run's label. The axis is tokens seen where all runs have them, so that
            runs of other batch sizes can be compared, else steps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axis = "tokens" if all(row.get("tokens") is not None for rows in runs.values() for row in rows) else "step"
    figure = Figure(figsize=(9, 5.5), dpi=125)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (label, rows) in enumerate(runs.items()):
        for key, width, alpha in (("train_loss", 0.8, 0.45), ("held_out_loss", 1.8, 1.0)):
            found = _thinned(
                [(int(row[axis]), float(row[key])) for row in rows if isinstance(row.get(key), int | float)]
            )
            if found:
                places, losses = zip(*found, strict=True)
                named = f"{label}: {losses[-1]:.3f}" if key == "held_out_loss" else None
                axes.plot(places, losses, color=f"C{place}", linewidth=width, alpha=alpha, label=named)
        if not any(isinstance(row.get("held_out_loss"), int | float) for row in rows):
            axes.plot([], [], color=f"C{place}", label=f"{label}: no held-out loss")
    axes.set_xlabel("tokens seen" if axis == "tokens" else "optimizer step")
    axes.set_ylabel("loss (nats per token): held out thick, training thin")
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _panel(axes: Any, stage: str, points: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn = 0
    for key, label, colour in SERIES:
        found = [(int(row["step"]), float(row[key])) for row in points if isinstance(row.get(key), int | float)]
        found = _thinned(found)
        if not found:
            continue
        drawn += 1
        steps, losses = zip(*found, strict=True)
        few = len(found) <= 30
        axes.plot(steps, losses, color=colour, linewidth=1.6, marker="o" if few else "", markersize=4,
                  label=f"{label}, last {losses[-1]:.3f}")  # fmt: skip
    axes.set_title(STAGE_NAMES.get(stage, stage.capitalize()), fontsize=11)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if drawn:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "nothing was logged", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([]), axes.set_yticks([])


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MAX_POINTS of them, the last one always among them."""
    every = -(-len(points) // MAX_POINTS) or 1
    kept = points[::every]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
