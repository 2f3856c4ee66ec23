"""Requests that look like an injection or like something harmful to a trained head (``data_jobs.safety.head``).

The vector is made here, not taken from the retriever: a guard that waited for another deployment would come after the
search instead of beside it, and would fail with it. It reads what comes in, as ``rules`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.records import Verdict
from data_jobs.safety.head import SafetyHead, pieces
from serve_apps.guards.heads import LiveHeads, checked
from serve_apps.guards.protocol import IN, InputCheck, OutputCheck

# Vectors [n, d] of texts, as the index's embedder makes them of questions.
Embed = Callable[[Sequence[str]], npt.ArrayLike]


class ClassifierGuard:
    """Scores texts, and flags or blocks as each head has earned.

    Args:
        asks: whose vectors ``embed`` gives (``Embedder.asks``).
        live: what is used instead of ``head``, if anything.

    Raises:
        IncompatibleError: the heads learnt from the vectors of another embedder.
    """

    name = "classifier"

    def __init__(self, head: SafetyHead, embed: Embed, asks: str, live: LiveHeads | None = None) -> None:
        self._head, self._embed, self._live = checked(head, asks), embed, live

    @classmethod
    def of(cls, config: PlinthConfig) -> ClassifierGuard:
        """The heads that are in force, and an embedder of its own."""
        from data_jobs.retrieval.embedder import load_embedder

        embedder = load_embedder(config.index, threads=1)
        live = LiveHeads.of(Home.from_env(), embedder.asks)
        return cls(live.head, lambda texts: embedder.encode(texts, "query"), embedder.asks, live)

    def follow(self) -> None:
        """Use what goes live from now on; needs the running loop."""
        if self._live is not None:
            self._live.follow()

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """The texts as they are; the piece of a text that looks worst counts."""
        cut, head = [pieces(text) for text in texts], self._live.head if self._live is not None else self._head
        scores = head.scores(self._embed([piece for own in cut for piece in own]))
        starts = np.cumsum([0, *map(len, cut)])
        found: list[list[Verdict]] = [[] for _ in texts]
        for category, own in scores.items():
            threshold, action = head.heads[category].threshold, head.action(category)
            for place, verdicts in enumerate(found):
                worst = float(own[starts[place] : starts[place + 1]].max())
                if worst >= threshold:
                    detail = f"it looks like {category}: {worst:.2f}, and {threshold:.2f} is enough"
                    verdicts.append(Verdict(IN, action, f"classifier_{category}", detail, version=head.version,
                                            score=round(worst, 4)))  # fmt: skip
        return [InputCheck(text, tuple(verdicts)) for text, verdicts in zip(texts, found, strict=True)]

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """Nothing is found in what goes out."""
        return [OutputCheck() for _ in texts]
