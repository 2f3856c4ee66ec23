"""The certificate of a run says what its workers took, on any number of them and after a resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cluster.core.storage import Store
from train_jobs.data.batches import Examples
from train_jobs.data.certificate import check, files_of, files_of_rows, once_an_epoch
from train_jobs.data.order import Order, Places, Share


def places(*rows: tuple[int, int, int]) -> Iterator[Places]:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    for at in range(0, len(table), 3):
        yield Places(*table[at : at + 3].T)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 1)), None),
        (((0, 0, 0), (0, 0, 0)), "taken twice"),
        (((0, 0, 0), (0, 1, 0)), "before each window was taken once"),
        (((0, 0, 0), (0, 0, 1), (0, 2, 0)), "before each window was taken once"),
        (((0, 0, 2),), "others were taken"),
    ],
)
def test_what_is_repeated_or_left_out_is_found(rows, message) -> None:
    found = once_an_epoch(places(*rows), [2, 1])
    assert found == [] if message is None else any(message in one for one in found)


def certificate() -> dict:
    corpora = [
        {"windows": 30, "weight": 0.7, "max_epochs": 0, "samples": 0},
        {"windows": 7, "weight": 0.3, "max_epochs": 2, "samples": 0},
    ]
    from train_jobs.data.certificate import _taken

    digest, taken = _taken(Order([Share(30, 0.7), Share(7, 0.3, 2)], 4), 200)
    for corpus, count in zip(corpora, taken, strict=True):
        corpus["samples"] = count
    return {
        "seed": 4, "steps": 50, "rows_per_step": 4, "samples": 200, "corpora": corpora, "order_sha256": digest
    }  # fmt: skip


def test_a_certificate_is_checked_without_the_data_and_no_change_goes_unnoticed() -> None:
    whole = certificate()
    assert check(whole) == []
    for change in ({"seed": 5}, {"samples": 199}, {"steps": 51}, {"order_sha256": "0" * 64}):
        assert check({**whole, **change}) != []
    for field in ("windows", "samples"):
        changed = json.loads(json.dumps(whole))
        changed["corpora"][1][field] += 1
        assert check(changed) != []


def test_the_certificate_of_examples_says_which_were_taken(tmp_path: Path) -> None:
    from safetensors.numpy import save

    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 30, (57, 2)).astype(np.int32)
    arrays = {"ids": np.zeros(int(lengths.sum()), dtype=np.int32), "lengths": lengths}
    store = Store(str(tmp_path))
    data = store.path("data.safetensors")
    store.write(data, save({f"train.{name}": array for name, array in arrays.items()}))
    examples = Examples(arrays, 256, seed=3, pad=0)
    steps = 2 * examples.steps_per_epoch + 3
    plan = SimpleNamespace(
        data=data, data_sha256="d", options={}, objective="completion", batch_tokens=256, seed=3, run_id="finetune-1",
        inputs={"examples": "small@1"},
    )  # fmt: skip
    made = json.loads(files_of(plan, store, steps)["order.json"])  # type: ignore[arg-type]
    assert check(made) == []
    assert made["samples"] == sum(len(examples.order.chosen(step)) for step in range(steps))
    assert made["corpora"][0]["dataset"] == "small@1"
    assert 2 < made["corpora"][0]["epochs"] < 3
    for change in ({"seed": 4}, {"samples": 1}, {"steps": steps + 1}, {"batch_tokens": 200}):
        assert check({**made, **change}) != []
    assert check({**made, "lengths": [made["lengths"][0] + 1, *made["lengths"][1:]]}) != []
    rows = json.loads(files_of_rows(plan, 40, 57, 8)["order.json"])  # type: ignore[arg-type]
    assert check(rows) == []
    assert rows["corpora"][0]["epochs"] == 5.0
    for change in ({"seed": 4}, {"samples": 1}, {"steps": 41}, {"rows": 58}, {"rows_per_step": 9}):
        assert check({**rows, **change}) != []
