"""How good a model is on parts of the questions: by source, by form and by length; the worst one by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEAST = 10  # questions of a slice that may be called the worst
LENGTHS = ((4, "up to 4 words"), (8, "5 to 8 words"), (10**9, "9 words and more"))


def by_slice(rows: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> dict[str, Any]:
    """Mean scores of slices of held-out rows.

    Returns:
        ``table``: of each slice ``by`` (source, form, length), ``slice``, ``n`` and mean ``score``; ``worst``: the
        name of the lowest of those with ``LEAST`` questions and more, ``gap``: how far it lies below all questions;
        both None where no slice has as many.
    """
    table: list[dict[str, Any]] = []
    for by, names in (
        ("source", [str(row.get("source") or "none") for row in rows]),
        ("form", [str(row["kind"]) for row in rows]),
        ("length", [_length(str(row["question"])) for row in rows]),
    ):
        for name in sorted(set(names)):
            inside = [score for score, found in zip(scores, names, strict=True) if found == name]
            table.append({"by": by, "slice": name, "n": len(inside), "score": float(np.mean(inside))})
    worst = min((one for one in table if one["n"] >= LEAST), key=lambda one: one["score"], default=None)
    if worst is None:
        return {"table": table, "worst": None, "gap": None}
    gap = max(0.0, float(np.mean(scores)) - worst["score"])
    return {"table": table, "worst": f"{worst['by']} {worst['slice']!r}", "gap": gap}


def _length(question: str) -> str:
    words = len(question.split())
    return next(name for most, name in LENGTHS if words <= most)
