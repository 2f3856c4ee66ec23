"""Who a gateway works with, as protocols, and what crosses the wire between them.

Everything here is a plain frozen value, so that it pickles over a Serve handle. Implementations raise
``UnavailableError`` when they are down or overloaded and may raise any ``PlinthError``; whatever a guard raises counts
as down. Each method is one hop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cluster.core.records import Answer, Verdict

if TYPE_CHECKING:
    from data_jobs.retrieval.results import Retrieval


@dataclass(frozen=True)
class InputCheck:
    """A text as it may go on (cleaned and redacted), and why it was changed or blocked."""

    text: str
    verdicts: tuple[Verdict, ...] = ()

    @property
    def blocked(self) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if not verdict.allowed), None)


@dataclass(frozen=True)
class Span:
    """Characters ``[start, end)`` of a checked text that must be replaced by a placeholder of this PII type."""

    type: str
    start: int
    end: int


@dataclass(frozen=True)
class OutputCheck:
    """What a guard found in a text on its way out: spans, sorted, not overlapping; or a verdict that blocks it all."""

    spans: tuple[Span, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def blocked(self) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if not verdict.allowed), None)


@dataclass(frozen=True)
class Sampling:
    """What a client asked of the generation; a tier may stop early by it, the gateway enforces limit and stops."""

    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None


class GuardClient(Protocol):
    """The safety guard. Results come in the order of ``texts``."""

    async def check_input(self, texts: list[str]) -> list[InputCheck]: ...

    async def check_output(self, texts: list[str]) -> list[OutputCheck]: ...


class RetrieverClient(Protocol):
    """Search and embedding."""

    async def search(self, question: str, k: int | None) -> Retrieval: ...

    async def embed(self, texts: list[str]) -> list[list[float]]: ...

    async def info(self) -> dict[str, Any]:
        """``index_version, index_as_of, chunks, embedder`` of the live index; UnavailableError while there is none."""
        ...


class TierClient(Protocol):
    """One tier. ``knowledge_cutoff`` is empty when the tier knows nothing beyond the index."""

    @property
    def model_version(self) -> str: ...

    @property
    def knowledge_cutoff(self) -> str: ...

    def stream(self, question: str, retrieval: Retrieval, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """Text deltas, then exactly one Answer, last. A tier whose text is ready at once may yield only the Answer."""
        ...


class Recorder(Protocol):
    """Takes one value of a metric from ``telemetry.METRICS``."""

    def record(self, metric: str, value: float, labels: dict[str, str]) -> None: ...
