"""Personal data in a text: the corpus's own redactor, which here also sees through compatibility characters."""

from __future__ import annotations

from collections.abc import Collection

from data_jobs.pii import DEFAULT_TYPES, MAX_ENTITY_CHARS, NameFinder, find
from serve_apps.gateway.protocols import Span
from serve_apps.guards.characters import folded

LONGEST = MAX_ENTITY_CHARS


def personal_spans(
    text: str, types: Collection[str] = DEFAULT_TYPES, names: NameFinder | None = None
) -> tuple[Span, ...]:
    """PII of these types in ``text``, sorted, not overlapping, at most LONGEST characters each. ``names`` finds
    those of persons; without it none is found."""
    form, places = folded(text)
    found = find(form, types, names)
    if places is None:
        return tuple(Span(f.type, f.start, f.end) for f in found)
    spans: list[Span] = []
    for f in found:
        start, end = places[f.start], places[f.end - 1] + 1
        if not spans or start >= spans[-1].end:
            spans.append(Span(f.type, start, end))
    return tuple(spans)


def rule(span: Span) -> str:
    """The verdict rule of a PII type: a closed set, fit for a metric label."""
    return f"pii_{span.type.lower()}"
