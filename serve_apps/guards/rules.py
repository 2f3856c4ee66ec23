"""Requests that break a rule: injections into the prompt, and what is clearly harmful (``data_jobs.safety``).

Looks at what comes in. What goes out is another matter: a passage may tell of an attack, an answer quote it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.core.records import Verdict
from data_jobs.safety.rules import Hit, load_rules
from serve_apps.guards.protocol import IN, InputCheck, OutputCheck


class RulesGuard:
    """Refuses what breaks a rule; what only quotes an attack in order to ask about it is flagged."""

    name = "rules"

    def __init__(self) -> None:
        self._book = load_rules()

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """The texts as they are, with a verdict for each rule that one breaks."""
        return [InputCheck(text, tuple(map(_verdict, self._book.scan(text)))) for text in texts]

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """Nothing is found in what goes out."""
        return [OutputCheck() for _ in texts]


def _verdict(hit: Hit) -> Verdict:
    return Verdict(IN, "flag" if hit.mention else "block", hit.rule, hit.reason, version=hit.version)
