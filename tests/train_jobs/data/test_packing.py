"""Windows of token streams: which tokens make up which step, documents told apart, corpora mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train_jobs.data.batches import Batch
from train_jobs.data.packing import Corpus, Windows, segments_of
from train_jobs.data.shards import ArrayStream

STREAM = np.arange(1000, dtype=np.int32)


def rows_of(batch: Batch) -> list[list[int]]:
    return [list(row) for row in batch.ids]


def test_every_window_predicts_the_token_after_each() -> None:
    batch = Windows(STREAM, context=16, batch_tokens=64, seed=0).batch(0)
    assert batch.ids.shape == (4, 16)
    assert (batch.targets == batch.ids.reshape(-1) + 1).all()
    assert batch.total == batch.tokens == 64


def test_the_order_is_a_function_of_seed_and_step() -> None:
    first, again = (Windows(STREAM, 16, 64, seed=7) for _ in range(2))
    later = [first.batch(step).ids for step in range(40)]
    assert (again.batch(33).ids == later[33]).all()  # asked out of order, as a resumed run does
    assert not np.array_equal(Windows(STREAM, 16, 64, seed=8).batch(0).ids, later[0])


def test_an_epoch_takes_each_window_once_and_the_next_cuts_elsewhere() -> None:
    windows = Windows(STREAM, 16, 64, seed=3)
    count = windows.order.shares[0].windows
    assert (count, windows.rows, windows.steps_per_epoch) == (61, 4, 16)
    first = [row[0] for step in range(2 * count // 4 + 1) for row in windows.batch(step).ids]  # steps cross epochs
    epochs = first[:count], first[count : 2 * count]
    for starts in epochs:
        assert len(set(starts)) == len(starts)
    assert {start % 16 for start in epochs[0]} != {start % 16 for start in epochs[1]}


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_workers_shares_make_up_the_step(world: int) -> None:
    windows = Windows(STREAM, 16, 64, seed=1)
    for step in (0, 5):
        whole = rows_of(windows.batch(step))
        parts = [windows.batch(step, rank, world) for rank in range(world)]
        assert sorted(row for part in parts for row in rows_of(part)) == sorted(whole)
        assert {part.total for part in parts} == {64}


@settings(max_examples=25, deadline=None)
@given(length=st.integers(2, 400), context=st.integers(1, 50), tokens=st.integers(1, 500), step=st.integers(0, 99))
def test_any_stream_and_context_give_batches_within_the_stream(
    length: int, context: int, tokens: int, step: int
) -> None:
    windows = Windows(np.arange(length, dtype=np.int32), context, tokens, seed=0)
    for batch in (windows.batch(step), windows.batch(step, 1, 2), *windows.in_order()):
        assert (batch.targets == batch.ids.reshape(-1)[batch.where] + 1).all()


def test_evaluation_reads_the_stream_once_whatever_the_number_of_workers() -> None:
    windows = Windows(STREAM, 16, 64, seed=0)
    alone = sorted(row for batch in windows.in_order() for row in rows_of(batch))
    shared = sorted(
        row for rank in range(3) for batch in windows.in_order(rank, 3) if len(batch.where) for row in rows_of(batch)
    )
    assert alone == shared
    assert len({tuple(row) for row in alone}) == len(alone) == 999 // 16


# -- documents packed in a row -----------------------------------------------------------------------------------------
def test_documents_of_a_row_are_numbered_by_their_end_tokens() -> None:
    ids = np.array([[1, 7, 2, 1, 8, 9, 2, 1], [5, 5, 5, 5, 5, 5, 5, 2]])
    assert segments_of(ids, end=2).tolist() == [[0, 0, 0, 1, 1, 1, 1, 2], [0] * 8]
    assert segments_of(ids[1:], end=2) is None  # the next document begins behind the row
    assert segments_of(ids, end=None) is None


def test_packed_rows_leave_no_token_out_and_number_every_document() -> None:
    stream = np.concatenate([[1, *[5] * length, 2] for length in (3, 30, 1, 1, 70, 12) * 9])
    windows = Windows(stream, 16, 64, seed=0, end=2)
    for step in range(windows.steps_per_epoch):
        batch = windows.batch(step)
        assert len(batch.where) == batch.total == batch.ids.size
        if batch.segments is not None:
            begins = np.diff(batch.segments, axis=1) == 1
            assert (batch.ids[:, 1:][begins] == 1).all()
            assert begins.sum() == (batch.ids[:, :-1] == 2).sum()


# -- several corpora, with limits --------------------------------------------------------------------------------------
def mixed(epochs: tuple[int, int] = (0, 0)) -> Windows:
    low, high = ArrayStream(np.arange(700)), ArrayStream(np.arange(10_000, 10_300))
    return Windows([Corpus(low, 0.7, epochs[0]), Corpus(high, 0.3, epochs[1])], 16, 160, seed=5)


def test_a_step_has_rows_of_each_corpus_by_its_weight() -> None:
    windows = mixed()
    rows = np.concatenate([windows.batch(step).ids[:, 0] for step in range(20)])
    assert (rows >= 10_000).sum() == 60
    assert all((windows.batch(step).ids[:, 0] >= 10_000).sum() in (2, 3, 4) for step in range(20))


@pytest.mark.parametrize("world", [2, 3, 16])
def test_a_mixture_with_limits_is_the_same_on_any_number_of_workers_down_to_its_last_step(world: int) -> None:
    windows = mixed(epochs=(1, 2))
    taken: list[list[int]] = []
    for step in range(windows.last_step):
        whole, parts = windows.batch(step), [windows.batch(step, rank, world) for rank in range(world)]
        shared = [row for part in parts if len(part.where) for row in rows_of(part)]
        assert sorted(shared) == sorted(rows_of(whole))
        assert {part.total for part in parts} == {whole.total} == {len(whole.targets)}
        assert all(part.ids.shape[1] == 16 and len(part.ids) for part in parts)
        taken += rows_of(whole)
    counts = [share.windows for share in windows.order.shares]
    assert len(taken) == counts[0] + 2 * counts[1]
    assert len(windows.batch(windows.last_step - 1).ids) < windows.rows  # the last step has what is left


@pytest.mark.parametrize(("context", "batch_tokens"), [(16, 64), (24, 64), (64, 32)])
def test_a_step_reads_the_tokens_that_it_says(context: int, batch_tokens: int) -> None:
    """Whole windows: less than asked for, or one where a window is longer than that."""
    windows = Windows(STREAM, context, batch_tokens, seed=0)
    assert windows.batch(0).tokens == windows.tokens_per_step
