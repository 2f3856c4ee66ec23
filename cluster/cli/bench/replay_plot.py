"""A replayed trace as a PNG: what was asked and answered, how long it took, what was outstanding, scale events."""

from __future__ import annotations

import itertools
from io import BytesIO
from typing import Any

BLUE, GREEN, AMBER, RED, GREY = COLORS = "#3a6ea5", "#3f8f6b", "#d9a441", "#c8553d", "#888888"


def replay_plot(result: dict[str, Any], title: str) -> bytes:
    """A PNG (1,250 wide; 1,125 high, 1,375 where replicas changed) of what ``plinth load`` returns. The same result
    gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, events = result["timeline"], result["scale_events"]
    figure = Figure(figsize=(10, 11 if events else 9), dpi=125)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    every = figure.subplots(4 if events else 3, 1, sharex=True)
    _rates(every[0], steps)
    _latency(every[1], steps, result["slo_ms"])
    _outstanding(every[2], steps, events)
    if events:
        _replicas(every[3], steps, events)
    every[-1].set_xlabel("seconds")
    for axes in every:
        for event in events:
            axes.axvline(event["at_s"], color=GREY, linewidth=0.9, linestyle=":")
        axes.grid(visible=True, alpha=0.25)
        axes.set_ylim(bottom=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _rates(axes: Any, steps: list[dict[str, Any]]) -> None:
    at, width = [step["at_s"] for step in steps], steps[0]["step_s"] if steps else 1
    below = [0.0] * len(steps)
    named = {"answered": GREEN, "refused": AMBER, "failed": RED, "not_sent": GREY}
    for kind, color in named.items():
        values = [step[kind] / width for step in steps]
        if any(values) or kind == "answered":
            label = kind.replace("_", " ")
            axes.bar(at, values, width, bottom=below, align="edge", color=color, label=label, linewidth=0)
        below = [low + value for low, value in zip(below, values, strict=True)]
    axes.step([*at, at[-1] + width] if at else [], [step["due"] / width for step in steps] + [0] * bool(at),
              where="post", color=BLUE, linewidth=1.2, label="asked")  # fmt: skip
    axes.set_ylabel("requests a second")


def _latency(axes: Any, steps: list[dict[str, Any]], slo_ms: float) -> None:
    for name, color in (("p95_ms", AMBER), ("p50_ms", GREEN)):
        points = [(step["at_s"] + step["step_s"] / 2, step[name]) for step in steps if step[name] is not None]
        at, values = [point[0] for point in points], [point[1] for point in points]
        axes.plot(at, values, color=color, linewidth=1.4, marker=".", markersize=3, label=name[:3].upper())
    axes.axhline(slo_ms, color=RED, linewidth=0.9, linestyle="--", label=f"SLO {slo_ms:g} ms")
    axes.set_ylabel("ms, whole answer")


def _outstanding(axes: Any, steps: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    at = [step["at_s"] + step["step_s"] for step in steps]
    axes.plot(at, [step["outstanding"] for step in steps], color=BLUE, linewidth=1.4, label="outstanding")
    if events:
        axes.plot([], [], color=GREY, linestyle=":", label="a number of replicas changed")
    axes.set_ylabel("requests")


def _replicas(axes: Any, steps: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    """How many of each deployment there were to be; those that never changed are left out."""
    end = max([step["at_s"] + step["step_s"] for step in steps] + [event["at_s"] for event in events])
    for name, color in zip(
        dict.fromkeys(event["deployment"] for event in events), itertools.cycle(COLORS), strict=False
    ):
        mine = [event for event in events if event["deployment"] == name]
        at = [0.0, *(event["at_s"] for event in mine), end]
        counts = [mine[0]["before"], *(event["after"] for event in mine)]
        axes.step(at, [*counts, counts[-1]], where="post", color=color, linewidth=1.4, label=name)
    axes.set_ylabel("replicas wanted")
