"""What of a search may be used at all: passages with a text that may not leave here answer nothing.

An answer that quoted one of them would be withheld as a whole, though the others may have answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cluster.core.records import Passage
from data_jobs.retrieval.results import OutlineFound, Retrieval


def permitted(found: Retrieval, barred: Callable[[Passage], bool]) -> tuple[Retrieval, list[Passage]]:
    """The search, its parts and its outline without the barred passages, and those."""
    out = [passage for passage in found.passages if barred(passage)]
    kept = found.only([place for place, one in enumerate(found.passages) if one not in out]) if out else found
    parts = [permitted(part, barred) for part in found.understood.parts]
    outline, beside = _outline(found.understood.outline, barred)
    out += [passage for _, those in parts for passage in those] + beside
    if not out:
        return found, []
    understood = replace(kept.understood, parts=tuple(part for part, _ in parts), outline=outline)
    return replace(kept, understood=understood), out


def _outline(
    outline: OutlineFound | None, barred: Callable[[Passage], bool]
) -> tuple[OutlineFound | None, list[Passage]]:
    """What is left of an outline: nothing where it would cite nothing any more."""
    out = [passage for passage in outline.passages if barred(passage)] if outline else []
    if outline is None or not out:
        return outline, []
    kept = tuple(passage for passage in outline.passages if passage not in out)
    return (replace(outline, passages=kept) if kept else None), out
