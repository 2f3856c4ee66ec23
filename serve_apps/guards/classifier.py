"""Requests that look like an injection or like something harmful to a trained head (``data_jobs.safety.head``).

The vector is made here, not taken from the retriever: a guard that waited for another deployment would come after the
search instead of beside it, and would fail with it. It reads what comes in, as ``rules`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cluster.core.config import PlinthConfig
from cluster.core.errors import IncompatibleError
from cluster.core.records import Verdict
from data_jobs.safety.head import SHIPPED, SafetyHead, pieces
from serve_apps.guards.protocol import IN, InputCheck, OutputCheck

# Vectors [n, d] of texts, as the index's embedder makes them of questions.
Embed = Callable[[Sequence[str]], npt.ArrayLike]


class ClassifierGuard:
    """Scores texts, and flags or blocks as each head has earned.

    Args:
        asks: whose vectors ``embed`` gives (``Embedder.asks``).

    Raises:
        IncompatibleError: the heads learnt from the vectors of another embedder.
    """

    name = "classifier"

    def __init__(self, head: SafetyHead, embed: Embed, asks: str) -> None:
        if head.embedder != asks:
            raise IncompatibleError(
                f"the guard `classifier` was trained on vectors of the embedder {head.embedder}, and index.embedder is "
                f"{asks}: train one with `plinth train safety`, or leave it out of serve.guards"
            )
        self._head, self._embed = head, embed

    @classmethod
    def of(cls, config: PlinthConfig) -> ClassifierGuard:
        """The heads that are shipped, and an embedder of its own."""
        from data_jobs.retrieval.embedder import load_embedder

        embedder = load_embedder(config.index, threads=1)
        head = SafetyHead.from_json(SHIPPED.read_text(encoding="utf-8"))
        return cls(head, lambda texts: embedder.encode(texts, "query"), embedder.asks)

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """The texts as they are; the piece of a text that looks worst counts."""
        cut = [pieces(text) for text in texts]
        scores = self._head.scores(self._embed([piece for own in cut for piece in own]))
        starts = np.cumsum([0, *map(len, cut)])
        found: list[list[Verdict]] = [[] for _ in texts]
        for category, own in scores.items():
            threshold, action = self._head.heads[category].threshold, self._head.action(category)
            for place, verdicts in enumerate(found):
                worst = float(own[starts[place] : starts[place + 1]].max())
                if worst >= threshold:
                    detail = f"it looks like {category}: {worst:.2f}, and {threshold:.2f} is enough"
                    verdicts.append(Verdict(IN, action, f"classifier_{category}", detail, version=self._head.version,
                                            score=round(worst, 4)))  # fmt: skip
        return [InputCheck(text, tuple(verdicts)) for text, verdicts in zip(texts, found, strict=True)]

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """Nothing is found in what goes out."""
        return [OutputCheck() for _ in texts]
