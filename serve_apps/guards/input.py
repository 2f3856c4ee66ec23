"""guard(in): what a client's text must pass before anything searches or answers it. Pure.

Policy, each rule with its action:

========================  ======  ===========================================================================
``encoding``              block   NUL or a lone surrogate: nothing downstream can store or send it
``size``                  block   longer than ``serve.max_prompt_chars``
``control_characters``    redact  control characters (but tab and line ends) and terminal colours are removed
``invisible_characters``  redact  zero-width, bidi and tag characters are removed: hidden text reaches nothing
``pii_<type>``            redact  personal data becomes a placeholder; equal values in one request share one
========================  ======  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cluster.core.records import Verdict
from cluster.core.sections.serve import ServeSection
from data_jobs.pii import DEFAULT_TYPES, NameFinder
from serve_apps.gateway.protocols import InputCheck
from serve_apps.guards.characters import encodable, has_control, visible
from serve_apps.guards.personal import personal_spans, rule
from serve_apps.guards.window import Placeholders

STAGE = "guard_in"


def check_input(
    texts: Sequence[str],
    section: ServeSection,
    types: Collection[str] = DEFAULT_TYPES,
    names: NameFinder | None = None,
) -> list[InputCheck]:
    """Check the texts of one request, in order."""
    placeholders = Placeholders()
    return [_check(text, section, types, names, placeholders) for text in texts]


def _check(
    text: str, section: ServeSection, types: Collection[str], names: NameFinder | None, placeholders: Placeholders
) -> InputCheck:
    if not encodable(text):
        return _blocked("encoding", "the text holds a NUL or half a surrogate pair")
    if len(text) > section.max_prompt_chars:
        return _blocked("size", f"the text has {len(text)} characters; {section.max_prompt_chars} are accepted")
    verdicts = []
    seen = visible(text)
    if has_control(text):
        verdicts.append(Verdict(STAGE, "redact", "control_characters", "control characters were removed"))
    elif seen != text:
        verdicts.append(Verdict(STAGE, "redact", "invisible_characters", "invisible characters were removed"))
    spans = personal_spans(seen, types, names)
    for name, kind in sorted({(rule(span), span.type) for span in spans}):
        verdicts.append(Verdict(STAGE, "redact", name, f"personal data was replaced by <{kind}_n>"))
    return InputCheck(placeholders.redact(seen, spans), tuple(verdicts))


def _blocked(name: str, detail: str) -> InputCheck:
    return InputCheck("", (Verdict(STAGE, "block", name, detail),))
