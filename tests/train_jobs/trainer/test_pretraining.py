"""The loop over token shards: what it takes, alone and shared, killed and resumed, is what its certificate says."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from cluster.core.config import PlinthConfig
from cluster.core.progress import Silent
from cluster.core.records import Manifest
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, make_dataset
from train_jobs import launch
from train_jobs.data.certificate import check
from train_jobs.data.corpora import Ingredient, open_windows
from train_jobs.data.packing import offset_of
from train_jobs.data.tokenizer import train_tokenizer
from train_jobs.distributed.ranks import Ranks
from train_jobs.trainer.plan import RunPlan

pytestmark = pytest.mark.process  # torch takes seconds to import


class Here:
    """A group of one worker in this process."""

    size = 1

    def __init__(self) -> None:
        self.plan: RunPlan | None = None

    def carry_out(self, plan: RunPlan, progress: Any) -> None:
        from train_jobs.trainer.loop import run

        self.plan = plan
        run(plan, Ranks())


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, ...]]]:
    """(step, tokens) of every row that a step was really made of; the first run is killed after some steps."""
    from train_jobs.trainer.loop import Trainer

    monkeypatch.setattr("train_jobs.trainer.loop.choose_precision", lambda *_: 0)
    rows: list[tuple[int, tuple[int, ...]]] = []
    real = Trainer._step

    def step(trainer: Trainer, progress: float) -> None:
        number = trainer.state.step
        if len({step for step, _ in rows}) == KILLED_AFTER and number == KILLED_AFTER and not killed:
            killed.append(number)
            raise KeyboardInterrupt  # a kill -9 as this process can survive it
        batch = trainer.batches.batch(number)
        rows.extend((number, tuple(row)) for row in batch.ids.tolist())
        real(trainer, progress)

    killed: list[int] = []
    monkeypatch.setattr(Trainer, "_step", step)
    return rows


KILLED_AFTER = 7


def mixture(store: Store) -> tuple[list[Ingredient], Manifest]:
    one, other = make_dataset(store), make_dataset(store, documents(60, seed=3), "other")
    tokenizer = train_tokenizer(PlinthConfig(train=SECTION), store, one, Silent())
    return [Ingredient(one, 0.6, epochs=2), Ingredient(other, 0.4, epochs=3)], tokenizer


def test_a_run_killed_in_the_middle_took_every_window_once_an_epoch_and_certifies_it(
    home, tmp_path, taken: list[tuple[int, tuple[int, ...]]]
) -> None:
    store = Store(str(tmp_path / "store"))
    corpora, tokenizer = mixture(store)
    section = SECTION.model_copy(update={"steps": 0, "minutes": 60.0, "checkpoint_s": 1e-6, "batch_tokens": 512})
    config = PlinthConfig(train=section)
    with pytest.raises(KeyboardInterrupt):
        launch.pretrain(config, store, corpora, tokenizer, Silent(), workers=Here())
    group = Here()
    made = launch.pretrain(config, store, corpora, tokenizer, Silent(), workers=group)
    assert group.plan is not None

    certificate = store.read_json(f"{store.artefact(made)}/order.json")
    assert check(certificate) == []
    windows, _ = open_windows(group.plan, store)
    assert certificate["steps"] == made.counts["steps"] == group.plan.most_steps == windows.last_step
    assert [(row["epochs"], row["max_epochs"]) for row in certificate["corpora"]] == [(2.0, 2), (3.0, 3)]
    assert [step for step, _ in taken] == sorted(step for step, _ in taken)  # the resumed run repeats no step
    expected = Counter()  # every window of every epoch, read from the shards without the order
    for corpus, stream in enumerate(windows.streams):
        for epoch in range(corpora[corpus].epochs):
            count = windows.order.shares[corpus].windows
            offset = offset_of(len(stream), windows.context, (section.seed, corpus, epoch))
            starts = offset + np.arange(count) * windows.context
            expected.update(tuple(row) for row in stream.rows(starts, windows.context).tolist())
    assert Counter(row for _, row in taken) == expected
    for world in (2, 3):
        shared = [
            tuple(row)
            for step in range(windows.last_step)
            for rank in range(world)
            for batch in [windows.batch(step, rank, world)]
            if len(batch.where)
            for row in batch.ids.tolist()
        ]
        assert Counter(shared) == expected
    assert made.inputs["dataset_2"] == f"other@{corpora[1].dataset.version}"


def test_documents_kept_apart_train_as_well_and_differently(home, tmp_path, taken) -> None:
    store = Store(str(tmp_path / "store"))
    dataset = make_dataset(store)
    tokenizer = train_tokenizer(PlinthConfig(train=SECTION), store, dataset, Silent())
    losses = {}
    for packing in ("documents", "stream"):
        taken.clear()
        section = SECTION.model_copy(update={"steps": KILLED_AFTER - 1, "packing": packing})
        group = Here()
        made = launch.pretrain(PlinthConfig(train=section), store, dataset, tokenizer, Silent(), workers=group)
        losses[packing] = made.counts["held_out_loss"]
        assert json.loads(store.read(f"{store.artefact(made)}/order.json"))["packing"] == packing
    assert losses["documents"] != losses["stream"]
    assert losses["documents"] < 6.0  # the logarithm of the vocabulary is 6.2
