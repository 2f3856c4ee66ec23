"""Questions embedded together are the questions embedded alone; a result is judged once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import data_jobs.retrieval.support as judging
from cluster.core.records import Document
from data_jobs.retrieval.question_vectors import QuestionVectors
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.search import Searcher
from tests.data_jobs.hash_embedder import HashEmbedder
from tests.data_jobs.retrieval.documents import CORPUS


class Counting(HashEmbedder):
    def __init__(self) -> None:
        super().__init__({"name": "hash", "dim": 32})
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str], kind: str = "document") -> np.ndarray:
        self.calls.append(list(texts))
        assert kind == "query"
        return super().encode(texts, kind)


def test_each_question_is_embedded_once_and_together() -> None:
    embedder = Counting()
    vectors = QuestionVectors(embedder, kept=3)
    vectors.prepare(["a b", "c", "a b", " "])
    assert embedder.calls == [["a b", "c"]]
    assert np.array_equal(vectors.of("c"), HashEmbedder(embedder.identity).encode(["c"], "query")[0])
    vectors.prepare(["c", "a b"])
    assert len(embedder.calls) == 1
    for name in ("d", "e"):  # four would be too many: the one that was not asked for the longest goes
        vectors.of(name)
    vectors.of("c")
    vectors.of("a b")
    assert [call for call in embedder.calls if call == ["a b"]] == [["a b"]]
    assert [call for call in embedder.calls if call == ["c"]] == []


def test_a_result_brings_its_confidence_and_loses_it_with_its_passages(
    searcher: Callable[[Sequence[Document]], Searcher],
) -> None:
    found = searcher(CORPUS).search("When do I water tomatoes?")
    assert found.confidence is not None
    bare = found.unread()
    assert bare.confidence is None
    assert judging.confidence(found.question, bare) == found.confidence == judging.confidence(found.question, found)
    assert judging.confidence("How tall is the Eiffel Tower?", found) != found.confidence
    assert found.only([0]).confidence is None
    assert Retrieval.from_dict(found.to_dict()) == found
