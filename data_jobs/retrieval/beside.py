"""Questions beside the point of documented code: about the language and its tools, which no docstring answers.

"How do I define a class?" resembles the documentation of what inspects classes more than a question about the weather
does, so that similarity to the documents alone cannot tell that they do not answer it. How near it is to questions
about a language can: ``language_questions.txt`` lists such, the same for every corpus.
"""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path

import numpy as np

from data_jobs.retrieval.embedder import Embedder

LIST = Path(__file__).with_name("language_questions.txt")


@cache
def language_questions(path: Path = LIST) -> tuple[str, ...]:
    """One a line; empty lines and comments (``#``) left out."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").split("\n"))
    return tuple(line for line in lines if line and not line.startswith("#"))


class LanguageQuestions:
    """The list as vectors of one embedder, made when first wanted."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @cached_property
    def _vectors(self) -> np.ndarray:
        return self._embedder.encode(language_questions(), kind="query")

    def warm(self) -> None:
        """Make the vectors now, so that no question waits for them."""
        _ = self._vectors

    def nearest(self, vector: np.ndarray) -> float:
        """The highest cosine of a question with this vector and one of the list."""
        return float((self._vectors @ vector).max())
