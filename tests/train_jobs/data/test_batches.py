from __future__ import annotations

import numpy as np
import pytest

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, example_rows, flip_a_bit, make_dataset
from train_jobs.data.batches import (
    Examples,
    check_documents,
    encode_examples,
    read_documents,
)
from train_jobs.data.tokenizer import fit

TOKENIZER = fit(iter(documents()), 512)


# -- documents ---------------------------------------------------------------------------------------------------------
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
