"""guard(out): what may not leave in an answer. Pure and stateless, so any replica can check any window.

Personal data becomes a placeholder (``window`` puts it in place); text that cannot be encoded is withheld altogether.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cluster.core.records import Verdict
from data_jobs.pii import DEFAULT_TYPES, NameFinder
from serve_apps.gateway.protocols import OutputCheck
from serve_apps.guards.characters import encodable
from serve_apps.guards.personal import personal_spans, rule

STAGE = "guard_out"


def check_output(
    texts: Sequence[str], types: Collection[str] = DEFAULT_TYPES, names: NameFinder | None = None
) -> list[OutputCheck]:
    """Check texts on their way out, in order. Offsets are those of the text as given."""
    return [_check(text, types, names) for text in texts]


def _check(text: str, types: Collection[str], names: NameFinder | None) -> OutputCheck:
    if not encodable(text):
        return OutputCheck(
            verdicts=(Verdict(STAGE, "block", "encoding", "the text holds a NUL or half a surrogate pair"),)
        )
    spans = personal_spans(text, types, names)
    kinds = sorted({(rule(span), span.type) for span in spans})
    found = (Verdict(STAGE, "redact", name, f"personal data was replaced by <{kind}_n>") for name, kind in kinds)
    return OutputCheck(spans, tuple(found))
