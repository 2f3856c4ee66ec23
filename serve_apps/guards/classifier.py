"""Requests that look like an injection or like something harmful to a trained head (``data_jobs.safety.head``).

The vector is made here, by an encoder that was taught for it, and not taken from the retriever: a guard that waited for
another deployment would come after the search instead of beside it, and would fail with it. It reads what is asked, and
of very long requests the beginnings and ends first (``MOST``); ``rules`` reads all of everything.
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

# Vectors [n, d] of texts, as the safety encoder makes them.
Embed = Callable[[Sequence[str]], npt.ArrayLike]
MOST = 16  # pieces that are read of a request, some 11,000 characters: each costs what a question costs to embed


class ClassifierGuard:
    """Scores texts, and flags or blocks as each head has earned.

    Args:
        asks: whose vectors ``embed`` gives (``Embedder.asks``).
        live: what is used instead of ``head``, if anything.

    Raises:
        IncompatibleError: the heads learnt from the vectors of another encoder.
    """

    name = "classifier"

    def __init__(self, head: SafetyHead, embed: Embed, asks: str, live: LiveHeads | None = None) -> None:
        self._head, self._embed, self._live = checked(head, asks), embed, live

    @classmethod
    def of(cls, config: PlinthConfig) -> ClassifierGuard:
        """The heads that are in force, and the encoder whose vectors they read."""
        from data_jobs.safety.encoder import load_encoder

        del config
        encoder = load_encoder()
        live = LiveHeads.of(Home.from_env(), encoder.asks)
        return cls(live.head, lambda texts: encoder.encode(texts, "query"), encoder.asks, live)

    def follow(self) -> None:
        """Use what goes live from now on; needs the running loop."""
        if self._live is not None:
            self._live.follow()

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """The texts as they are; the piece of a text that looks worst counts."""
        cut, head = read([pieces(text) for text in texts]), self._live.head if self._live is not None else self._head
        scores = head.scores(self._embed([piece for own in cut for piece in own]))
        starts = np.cumsum([0, *map(len, cut)])
        found: list[list[Verdict]] = [[] for _ in texts]
        for category, own in scores.items():
            threshold, action = head.heads[category].threshold, head.action(category)
            for place, verdicts in enumerate(found):
                worst = float(own[starts[place] : starts[place + 1]].max(initial=-np.inf))
                if worst >= threshold:
                    detail = f"it looks like {category}: {worst:.2f}, and {threshold:.2f} is enough"
                    verdicts.append(Verdict(IN, action, f"classifier_{category}", detail, version=head.version,
                                            score=round(worst, 4)))  # fmt: skip
        return [InputCheck(text, tuple(verdicts)) for text, verdicts in zip(texts, found, strict=True)]

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """Nothing is found in what goes out."""
        return [OutputCheck() for _ in texts]


def read(cut: Sequence[Sequence[str]], most: int = MOST) -> list[list[str]]:
    """Of the pieces of texts at most so many: the first of each text, the last of each, then the others, in order."""
    order = [(rank, text, place)
             for text, own in enumerate(cut)
             for place in range(len(own))
             for rank in [0 if place == 0 else 1 if place == len(own) - 1 else 2]]  # fmt: skip
    kept = {(text, place) for _, text, place in sorted(order)[:most]}
    return [[piece for place, piece in enumerate(own) if (text, place) in kept] for text, own in enumerate(cut)]
