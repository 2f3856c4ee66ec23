"""What keeps a passage out of a prompt: looked for when an index is built, and at use where the rules are others.

A finding is the id of a rule (``rules.yaml``) that finds an injection, or one of MARKS. Whoever writes a document must
not steer who reads it; quoted, such a passage does nothing.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Protocol

from cluster.core.code import source_hash
from data_jobs.safety.rules import INJECTION, load_rules
from data_jobs.text.normalise import has_invisible

HIDDEN, CONTROL = "hidden_characters", "control_tokens"
MARKS = {
    HIDDEN: "it holds characters that a reader cannot see",
    CONTROL: "it holds what tells the turns of a conversation apart",
}
UNKNOWN = "unknown_rule"

# What chat templates of well-known models set turns apart with, and our own.
_CONTROL = re.compile(
    r"<[|｜]/?[\w▁]{1,40}[|｜]>|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
)


class Said(Protocol):
    """What chunks and passages have in common."""

    @property
    def title(self) -> str:
        """What its document is called."""
        ...

    @property
    def header(self) -> str:
        """The lines without which it cannot be read."""
        ...

    @property
    def text(self) -> str:
        """The passage itself."""
        ...


def text_of(passage: Said) -> str:
    """All of a passage that a prompt may hold."""
    return "\n".join(filter(None, (passage.title, passage.header, passage.text)))


def findings(text: str) -> tuple[str, ...]:
    """What of a text must stand in no prompt; not an attack that is quoted in a text about attacks."""
    hits = load_rules().scan(text, (INJECTION,))
    return (*marks(text), *(hit.rule for hit in hits if not hit.mention))


def marks(text: str) -> tuple[str, ...]:
    """Those findings that take no rules: microseconds."""
    hidden = (HIDDEN,) if has_invisible(text) else ()
    return (*hidden, CONTROL) if _CONTROL.search(text) else hidden


@cache
def scan_version() -> str:
    """Of the rules and of the code that looks: a scan of another version may find something else."""
    return source_hash(__name__)


def told(finding: str) -> tuple[str, str]:
    """A finding as verdicts name it, and the reason as people may read it; of an unknown one no more than that."""
    reasons = {rule.id: rule.reason for rule in load_rules().rules} | MARKS
    return (finding, reasons[finding]) if finding in reasons else (UNKNOWN, "an earlier scan found something in it")
