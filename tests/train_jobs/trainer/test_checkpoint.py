from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.errors import IntegrityError
from cluster.core.storage import Store
from tests.train_jobs.corpora import flip_a_bit
from train_jobs.models.shape import Shape

pytestmark = pytest.mark.process  # torch takes seconds to import
SHAPE = Shape(vocab=64, hidden=16, layers=1, heads=2, kv_heads=1, mlp=24, context=16)


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def trained(steps: int, seed: int = 0):
    """A model and its optimizer after some steps."""
    import torch

    from train_jobs.models.llama import Llama
    from train_jobs.trainer.optimizer import make_optimizer

    model = Llama(SHAPE, seed)
    optimizer = make_optimizer("adamw", model, 1e-2)
    for step in range(steps):
        model(torch.full((1, 4), step % 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def saved(store: Store, step: int):
    from train_jobs.trainer.checkpoint import TrainState, save

    model, optimizer = trained(step)
    return Path(save(store, store.staging("run"), model, optimizer, TrainState(step=step, tokens=10 * step)))


def test_a_checkpoint_holds_weights_optimizer_and_place(store: Store) -> None:
    import torch

    from train_jobs.trainer.checkpoint import latest, restore

    saved(store, 3)
    model, optimizer = trained(3)
    other, its_optimizer = trained(1, seed=9)
    found = latest(store, store.staging("run"))
    assert found is not None
    state = restore(found, other, its_optimizer)
    assert (state.step, state.tokens) == (3, 30)
    for (model_a, optimizer_a), (model_b, optimizer_b) in [((model, optimizer), (other, its_optimizer))]:
        for a, b in zip(model_a.parameters(), model_b.parameters(), strict=True):
            assert torch.equal(a, b)
            for what in ("exp_avg", "exp_avg_sq", "step"):
                assert torch.equal(optimizer_a.state[a][what], optimizer_b.state[b][what])


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(store: Store, file: str, damage: str) -> None:
    from train_jobs.trainer.checkpoint import latest, load

    saved(store, 2)
    newest = saved(store, 4)
    path = newest / file
    if damage == "flip":
        flip_a_bit(path)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path.unlink()
    with pytest.raises(IntegrityError):
        load(store, str(newest))
    found = latest(store, store.staging("run"))
    assert found is not None
    assert found.state.step == 2


def test_no_bit_of_the_weights_may_flip(store: Store) -> None:
    from train_jobs.trainer.checkpoint import load

    path = saved(store, 2)
    for share in range(0, 100, 7):
        flip_a_bit(path / "model.safetensors", share / 100)
        with pytest.raises(IntegrityError, match="damaged"):
            load(store, str(path))
        flip_a_bit(path / "model.safetensors", share / 100)
    load(store, str(path))


def test_the_newest_two_are_kept(store: Store) -> None:
    from train_jobs.trainer.checkpoint import paths

    for step in (1, 2, 3, 5):
        saved(store, step)
    assert [Path(p).name for p in paths(store, store.staging("run"))] == ["00000003", "00000005"]


def test_what_lies_beyond_the_resumed_step_is_removed(store: Store) -> None:
    from train_jobs.trainer.checkpoint import discard_after

    saved(store, 2)
    (saved(store, 4) / "manifest.json").unlink()
    discard_after(store, store.staging("run"), 2)
    assert [p.name for p in (Path(store.staging("run")) / "checkpoints").iterdir()] == ["00000002"]


def test_nothing_is_pickled(store: Store) -> None:
    path = saved(store, 2)
    assert {p.name for p in path.iterdir()} == {
        "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json",
    }  # fmt: skip
    assert set(json.loads((path / "manifest.json").read_text())) == {"files"}


def test_weights_of_another_shape_are_refused() -> None:
    import dataclasses

    from train_jobs.models.llama import Llama
    from train_jobs.trainer.checkpoint import load_weights, weights_of

    wider = Llama(dataclasses.replace(SHAPE, vocab=65))
    with pytest.raises(IntegrityError, match="embed_tokens"):
        load_weights(Llama(SHAPE), weights_of(wider))
