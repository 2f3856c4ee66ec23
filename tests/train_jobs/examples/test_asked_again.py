"""A question that is searched twice is embedded once, to the same vector."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from data_jobs.retrieval.embedder import Embedder
from train_jobs.examples.asked_again import AskedAgain


class Counting:
    """An embedder at the border: numbers instead of a network, and how many texts it was given."""

    dim = 3

    def __init__(self) -> None:
        self.given: list[str] = []

    def encode(self, texts: Any, kind: str = "document") -> np.ndarray:
        self.given += texts
        return np.array([[len(text), len(kind), ord(text[0])] for text in texts], dtype=np.float32)


def test_a_question_asked_again_is_embedded_once() -> None:
    plain, counted = Counting(), Counting()
    again = AskedAgain(cast(Embedder, counted))
    for question in ("how do I copy", "how do I copy", "what is a mast", "how do I copy"):
        assert (again.encode([question], kind="query") == plain.encode([question], kind="query")).all()
    assert counted.given == ["how do I copy", "what is a mast", "how do I copy"]
    assert again.dim == 3


def test_documents_are_always_embedded() -> None:
    counted = Counting()
    again = AskedAgain(cast(Embedder, counted))
    again.encode(["mast"], kind="query")
    assert again.encode(["mast"])[0][1] == len("document")
    assert again.encode(["mast", "sail"], kind="query").shape == (2, 3)
    assert counted.given == ["mast", "mast", "mast", "sail"]
