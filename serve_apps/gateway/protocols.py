"""Who a gateway works with, as protocols, and what crosses the wire between them.

Everything here is a plain frozen value, so that it pickles over a Serve handle. Implementations raise
``UnavailableError`` when they are down or overloaded and may raise any ``PlinthError``; whatever a guard raises counts
as down. Each method is one hop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.records import Answer
from serve_apps.guards.protocol import InputCheck, OutputCheck

if TYPE_CHECKING:
    from data_jobs.retrieval.examples import Example
    from data_jobs.retrieval.results import Retrieval


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


SAMPLED = ("temperature", "top_p", "seed")  # of ``Sampling``, what language models take


@dataclass(frozen=True)
class Band:
    """What a gate measured on questions whose support lay in ``[low, high)``: the mean score of the model, and that of
    the fallback tier on the same questions."""

    low: float
    high: float
    questions: int
    model: float
    fallback: float


@dataclass(frozen=True)
class TierState:
    """What the router knows of a tier.

    Attributes:
        ready: it can answer now.
        earned: it passed its gate, or is what gates compare with, so ``auto`` may choose it.
        fallback: it is the extractive tier that answers where the others cannot, and that gates compare with.
        model_version: of what it serves.
        knowledge_cutoff: empty when the tier knows nothing beyond the index.
        continues: it is a language model that can continue a plain prompt.
        samples: it takes options of sampling for its answers too, not for continuations only.
        takes: which of ``SAMPLED`` it takes.
        checked: it says nothing that it has not held against the passages before.
        latency_ms: mean milliseconds of one answer: what this gateway measured, before that the gate (0: nobody yet).
        price: of a thousand tokens, as configured.
        bands: quality by support, measured by the gate on held-out documents.
        ongoing: answers this gateway waits for from it right now.
        capacity: answers it makes at once before they queue.
        asleep: it has no replica; who needs it waits until one has started.
        external: it answers on another server, so what it is asked leaves the house.
        enabled: of an external one, that nobody switched it off.
        instead: the tier that answers where this one does not, also for who asks for it by name; empty: the fallback,
            and for an external one only.
        access: the labels of the documents that it was trained on; it answers who may read all of them.
    """

    name: str
    ready: bool = True
    earned: bool = True
    fallback: bool = False
    model_version: str = ""
    knowledge_cutoff: str = ""
    continues: bool = False
    samples: bool = False
    takes: tuple[str, ...] = SAMPLED
    checked: bool = False
    latency_ms: float = 0.0
    price: float = 0.0
    bands: tuple[Band, ...] = ()
    ongoing: int = 0
    capacity: int = 1
    asleep: bool = False
    external: bool = False
    enabled: bool = True
    instead: str = ""
    access: tuple[str, ...] = ()


class GuardClient(Protocol):
    """The safety guard. Results come in the order of ``texts``."""

    async def check_input(self, texts: list[str], prompts: bool = True) -> list[InputCheck]:
        """The texts of one request as they may go on, with the verdicts on each.

        Args:
            prompts: whether a model or a search is asked with them; what only is embedded, or leaves, is judged by
                rules alone: a page about crime asks for none.
        """
        ...

    async def check_output(self, texts: list[str]) -> list[OutputCheck]:
        """What must not leave in these texts; offsets are those of each text as given."""
        ...


class RetrieverClient(Protocol):
    """Search and embedding. ``collection`` names what is searched, empty: the default one; an ApiError (404) where
    there is none of the name. ``rights`` are those of who asks: of documents that they do not let read, nothing has a
    part in what is returned; by default documents with any label are left out."""

    async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Retrieval:
        """Passages for a question, at most ``k`` (None: as configured); UnavailableError while there is no index."""
        ...

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """One unit vector for each text, in their order."""
        ...

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        """The version of what embeds questions, and one unit vector for each text, as a search would make it."""
        ...

    async def info(self) -> dict[str, Any]:
        """``collection, index_version, index_as_of, chunks, embedder`` of the default collection; UnavailableError
        while there is none."""
        ...

    async def collections(self) -> list[dict[str, Any]]:
        """What is known of every collection, by name; which one is ``default``, which are ``loaded``, and how many
        decisions to forget (``forgotten``) their answers heed."""
        ...

    async def examples(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> tuple[str, list[Example]]:
        """The live index' version and questions it can be asked; UnavailableError while there is none."""
        ...

    async def topics(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> list[str]:
        """What the documents of the live index are about; UnavailableError while there is none."""
        ...


class TierClient(Protocol):
    """One tier."""

    @property
    def state(self) -> TierState:
        """What is known of the tier at the moment; asks nobody."""
        ...

    async def refresh(self) -> None:
        """Bring ``state`` up to date; cheap enough for every request. Never raises: what is down is not ready."""
        ...

    def wake(self) -> None:
        """Have a tier that is asleep started, without waiting for it."""
        ...

    def stream(self, question: str, retrieval: Retrieval, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """Text deltas, then exactly one Answer, last. A tier whose text is ready at once may yield only the Answer."""
        ...

    def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """The plain continuation of a prompt, without passages: only where ``state.continues``."""
        ...


class Recorder(Protocol):
    """Takes one value of a metric from ``telemetry.METRICS``."""

    def record(self, metric: str, value: float, labels: dict[str, str]) -> None:
        """Take one value; ``labels`` are those the metric is declared with."""
        ...
