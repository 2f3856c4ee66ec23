"""What a guard is to the service: a name, and two checks of texts. What rules and trained classifiers have in common.

Everything here is a plain frozen value, so that it pickles over a Serve handle. A guard that raises counts as down,
and without its answer nothing goes on: callers fail closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.core.records import Verdict

# The stage of a verdict: a request, what goes out, what was found and would stand in a prompt.
IN, OUT, PASSAGES = "guard_in", "guard_out", "guard_passages"


@dataclass(frozen=True)
class Span:
    """Characters ``[start, end)`` of a checked text that must be replaced by a placeholder of this type."""

    type: str
    start: int
    end: int


@dataclass(frozen=True)
class InputCheck:
    """A text as it may go on (cleaned and redacted), and why it was changed or blocked."""

    text: str
    verdicts: tuple[Verdict, ...] = ()

    @property
    def blocked(self) -> Verdict | None:
        """The first verdict that refuses the text."""
        return next((verdict for verdict in self.verdicts if not verdict.allowed), None)


@dataclass(frozen=True)
class OutputCheck:
    """What a guard found in a text on its way out: spans, sorted, not overlapping; or a verdict that blocks it all."""

    spans: tuple[Span, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def blocked(self) -> Verdict | None:
        """The first verdict that withholds the text."""
        return next((verdict for verdict in self.verdicts if not verdict.allowed), None)


class Guard(Protocol):
    """Checks texts. Results come in the order of the texts, one each; a check may block the thread it is called in.

    ``name`` goes into every verdict (``chain`` puts it there). Nothing may be kept between calls: any replica may get
    the next window of a stream.
    """

    @property
    def name(self) -> str:
        """What verdicts call it."""
        ...

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """Check the texts of one request together: what a client sent."""
        ...

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """Check texts on their way out; offsets are those of each text as given.

        What a guard looks for must fit into the window that is held back (``serve.hold_back_chars``).
        """
        ...
