"""Cosines of rows of an index: the same to the last bit, whether its own vectors are used or the stored ones."""

from __future__ import annotations

import numpy as np
import pytest

from data_jobs.retrieval.dense import TOGETHER, DenseIndex, PatchedDense, row_cosines

ROWS, DIM = 300, 32


@pytest.fixture
def stored() -> np.ndarray:
    vectors = np.random.default_rng(7).normal(size=(2 * ROWS, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def test_an_exact_index_gives_the_cosines_of_the_stored_vectors(stored: np.ndarray) -> None:
    places = np.arange(1, 2 * ROWS, 2)
    index, vector = DenseIndex(stored[places]), stored[5].astype(np.float32)
    rows = np.array([0, 299, 17, 2])
    wanted = stored[places[rows]].astype(np.float32) @ vector
    assert index.vectors is not None
    assert index.vectors.tolist() == stored[places].astype(np.float32).tolist()
    elsewhere = np.zeros_like(stored)  # an exact index has no need of the stored ones
    assert row_cosines(index, elsewhere, places)(rows, vector).tolist() == wanted.tolist()
    assert row_cosines(None, stored, places)(rows, vector).tolist() == wanted.tolist()


def test_an_index_with_rows_beside_it_takes_the_stored_ones(stored: np.ndarray) -> None:
    places, vector, rows = np.arange(2 * ROWS), stored[0].astype(np.float32), np.array([1, ROWS + 1])
    index = PatchedDense(DenseIndex(stored[:ROWS]), places[:ROWS], stored[ROWS:], places[ROWS:])
    wanted = stored[rows].astype(np.float32) @ vector
    assert row_cosines(index, stored, places)(rows, vector).tolist() == wanted.tolist()


def test_what_is_found_ahead_is_what_is_found_alone(stored: np.ndarray) -> None:
    index, k = DenseIndex(stored), 20
    vectors = stored[: 2 * TOGETHER].astype(np.float32) + np.float32(0.01)
    alone = [index.search(vector, k) for vector in vectors]
    index.ahead(vectors, k)
    index.index = None  # nothing else is asked any more
    for vector, (rows, scores) in zip(vectors, alone, strict=True):
        found, known = index.search(vector, k)
        assert found.tolist() == rows.tolist()
        assert np.abs(known - scores).max() < 1e-6
    with pytest.raises(AttributeError):
        index.search(vectors[0], k)


def test_another_k_is_searched_anew(stored: np.ndarray) -> None:
    index, vectors = DenseIndex(stored), stored[:TOGETHER].astype(np.float32)
    index.ahead(vectors, 3)
    assert len(index.search(vectors[0], 5)[0]) == 5
