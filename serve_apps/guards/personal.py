"""Personal data in a text: the corpus's own redactor."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cluster.core.records import Verdict
from data_jobs.pii import DEFAULT_TYPES, MAX_ENTITY_CHARS, MODEL_TYPES, NameFinder, find
from serve_apps.guards.protocol import IN, OUT, InputCheck, OutputCheck, Span
from serve_apps.guards.window import Placeholders

LONGEST = MAX_ENTITY_CHARS


def personal_spans(
    text: str, types: Collection[str] = DEFAULT_TYPES, names: NameFinder | None = None
) -> tuple[Span, ...]:
    """PII of these types in ``text``, sorted, not overlapping, at most LONGEST characters each. ``names`` finds
    those of persons; without it none is found."""
    return tuple(Span(f.type, f.start, f.end) for f in find(text, types, names))


def rule(span: Span) -> str:
    """The verdict rule of a PII type: a closed set, fit for a metric label."""
    return f"pii_{span.type.lower()}"


class PersonalDataGuard:
    """Replaces personal data by placeholders; equal values in one request share one.

    Args:
        types: what is looked for (``data.redact``).
        names: what finds persons' names (``data.names``): a folder's model. The packaged one of ``auto`` reads
            documents only: a long question would wait for it longer than for everything else.
    """

    name = "personal_data"

    def __init__(self, types: Collection[str] = DEFAULT_TYPES, names: str = "off") -> None:
        self._types = types
        self._names: NameFinder | None = None
        if names not in ("auto", "off") and not MODEL_TYPES.isdisjoint(types):
            from data_jobs.pii.names import load_names

            self._names = load_names(names)

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """The texts with placeholders in them."""
        placeholders = Placeholders()
        checks = []
        for text in texts:
            spans = personal_spans(text, self._types, self._names)
            checks.append(InputCheck(placeholders.redact(text, spans), _verdicts(IN, spans)))
        return checks

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """Where personal data is; ``window`` puts the placeholders in place."""
        found = [personal_spans(text, self._types, self._names) for text in texts]
        return [OutputCheck(spans, _verdicts(OUT, spans)) for spans in found]


def _verdicts(stage: str, spans: Sequence[Span]) -> tuple[Verdict, ...]:
    kinds = sorted({(rule(span), span.type) for span in spans})
    return tuple(Verdict(stage, "redact", name, f"personal data was replaced by <{kind}_n>") for name, kind in kinds)
