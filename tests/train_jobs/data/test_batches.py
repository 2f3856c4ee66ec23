from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, example_rows, flip_a_bit, make_dataset
from train_jobs.answering.special_tokens import SPECIAL_TOKENS
from train_jobs.data.batches import (
    Batch,
    Examples,
    Windows,
    check_documents,
    encode_examples,
    read_documents,
    token_streams,
)
from data_jobs.corpus.splits import is_held_out
from train_jobs.data.tokenizer import fit

STREAM = np.arange(1000, dtype=np.int32)
TOKENIZER = fit(iter(documents()), 512)


def rows_of(batch: Batch) -> list[list[int]]:
    return [list(row) for row in batch.ids]


# -- windows -----------------------------------------------------------------------------------------------------------
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
    epochs = [
        [row[0] for s in range(windows.steps_per_epoch) for row in windows.batch(e * windows.steps_per_epoch + s).ids]
        for e in range(2)
    ]
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


@given(length=st.integers(2, 400), context=st.integers(1, 50), tokens=st.integers(1, 500), step=st.integers(0, 99))
def test_any_stream_and_context_give_batches_within_the_stream(
    length: int, context: int, tokens: int, step: int
) -> None:
    windows = Windows(np.arange(length, dtype=np.int32), context, tokens, seed=0)
    for batch in (windows.batch(step), windows.batch(step, 1, 2), *windows.in_order()):
        assert (batch.targets == batch.ids.reshape(-1) + 1).all()


def test_evaluation_reads_the_stream_once_whatever_the_number_of_workers() -> None:
    windows = Windows(STREAM, 16, 64, seed=0)
    alone = sorted(row for batch in windows.in_order() for row in rows_of(batch))
    shared = sorted(row for rank in range(3) for batch in windows.in_order(rank, 3) for row in rows_of(batch))
    assert alone == shared
    assert len({tuple(row) for row in alone}) == len(alone) == 999 // 16


# -- documents ---------------------------------------------------------------------------------------------------------
def test_held_out_documents_are_in_neither_stream_of_the_other_side(tmp_path) -> None:
    store = Store(str(tmp_path))
    made = documents(80)
    marked = [d.__class__(**{**d.to_dict(), "text": f"{d.text} zq{'z' * (n % 7)}q{n}."}) for n, d in enumerate(made)]
    dataset = make_dataset(store, marked)
    streams = token_streams(store, dataset, TOKENIZER, SECTION, bos=1, eos=2)
    texts = {side: TOKENIZER.decode(list(stream), skip_special_tokens=False) for side, stream in streams.items()}
    for document in marked:
        held_out = is_held_out(document.id, SECTION.held_out)
        assert (document.text in texts["held_out"]) == held_out, document.id
        assert (document.text in texts["train"]) != held_out, document.id


def test_text_that_looks_like_a_special_token_is_text(tmp_path) -> None:
    store = Store(str(tmp_path))
    made = [d.__class__(**{**d.to_dict(), "text": "Say <|answer|> and <|none|>. " + d.text}) for d in documents(40)]
    streams = token_streams(store, make_dataset(store, made), TOKENIZER, SECTION, bos=1, eos=2)
    assert set(streams["train"][streams["train"] < len(SPECIAL_TOKENS)]) == {1, 2}


def test_a_damaged_dataset_is_refused(tmp_path) -> None:
    store = Store(str(tmp_path))
    dataset = make_dataset(store)
    flip_a_bit(f"{store.artefact(dataset)}/documents-00000.parquet")
    with pytest.raises(IntegrityError):
        list(read_documents(store, dataset, 0.1))


def test_too_few_documents_are_refused_by_number(tmp_path) -> None:
    dataset = make_dataset(Store(str(tmp_path)), documents(9))
    with pytest.raises(BadInputError, match=r"9 documents.*min_documents=10.*quote tier") as refused:
        check_documents(SECTION, dataset)
    assert refused.value.extras == {"documents": 9, "needed": 10}


def test_documents_without_a_window_of_text_are_refused(tmp_path) -> None:
    store = Store(str(tmp_path))
    dataset = make_dataset(store, documents(12))
    wide = SECTION.model_copy(update={"context_tokens": 8192})
    with pytest.raises(BadInputError, match="too small to train on"):
        token_streams(store, dataset, TOKENIZER, wide, bos=1, eos=2)


# -- examples ----------------------------------------------------------------------------------------------------------
def examples(count: int = 50, batch_tokens: int = 256) -> Examples:
    arrays, _ = encode_examples(example_rows(count), TOKENIZER, context=64)
    return Examples(arrays, batch_tokens, seed=0, pad=0)


def test_only_the_completion_is_learnt() -> None:
    rows = example_rows(1)
    arrays, _ = encode_examples(rows, TOKENIZER, context=64)
    batch = Examples(arrays, 256, seed=0, pad=0).batch(0)
    completion = TOKENIZER.encode(rows[0]["completion"]).ids
    assert len(completion) == 2  # one special token each
    assert list(batch.targets) == completion
    flat = batch.ids.reshape(-1)
    assert TOKENIZER.id_to_token(int(flat[batch.where[0]])) == "<|answer|>"  # predicts the first token of the answer
    assert [int(flat[p + 1]) for p in batch.where] == completion
    assert batch.total == 2


def test_padding_is_never_counted_and_never_a_target() -> None:
    for batch in (examples().batch(step) for step in range(4)):
        assert (batch.targets != 0).all()
        assert (batch.ids.reshape(-1)[batch.where] != 0).all()
        assert batch.tokens == int((batch.ids != 0).sum())


def test_too_long_examples_are_left_out_and_counted() -> None:
    rows = [{**row, "prompt": row["prompt"] + " pump" * (n % 5)} for n, row in enumerate(example_rows(20))]
    lengths = [len(TOKENIZER.encode(row["prompt"] + row["completion"]).ids) for row in rows]
    limit = sorted(lengths)[9]
    arrays, dropped = encode_examples(rows, TOKENIZER, context=limit)
    assert len(arrays["lengths"]) == sum(n <= limit for n in lengths)
    assert dropped == sum(n > limit for n in lengths) > 0


def test_an_epoch_of_examples_takes_each_once_within_the_token_budget() -> None:
    made = examples()
    batches = [made.batch(step) for step in range(made.steps_per_epoch)]
    assert sum(len(batch.ids) for batch in batches) == len(made) == 50
    assert all(batch.ids.size <= 256 for batch in batches)


def test_the_order_of_examples_is_a_function_of_seed_and_step() -> None:
    one, other = examples(), examples()
    step = one.steps_per_epoch * 2 + 1
    assert (one.batch(step).ids == other.batch(step).ids).all()
    assert any(not np.array_equal(one.batch(s).ids, one.batch(s + one.steps_per_epoch).ids) for s in range(3))


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_examples_make_up_the_step(world: int) -> None:
    made = examples(11, batch_tokens=120)
    for step in range(made.steps_per_epoch):
        whole = made.batch(step)
        parts = [made.batch(step, rank, world) for rank in range(world)]
        assert sorted(t for part in parts for t in part.targets) == sorted(whole.targets)
        assert {part.total for part in parts} == {whole.total}
