from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import pytest

from cluster.core.errors import EnvironmentFaultError, IntegrityError
from cluster.core.storage import Store
from tests.train_jobs.corpora import flip_a_bit
from train_jobs.models.shape import Shape

pytestmark = pytest.mark.process  # torch takes seconds to import
SHAPE = Shape(vocab=64, hidden=16, layers=1, heads=2, kv_heads=1, mlp=24, context=16)


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def trained(steps: int, seed: int = 0):
    """A strategy that holds a model after some steps."""
    import torch

    from train_jobs.distributed.ranks import Ranks
    from train_jobs.distributed.strategy import Settings, Strategy
    from train_jobs.models.llama import Llama
    from train_jobs.trainer.optimizer import make_optimizers

    strategy = Strategy(Ranks(), Settings())
    strategy.prepare(Llama(SHAPE, seed), [], lambda model: make_optimizers("adamw", model, [], 1e-2))
    for step in range(steps):
        strategy.backward(strategy.network(torch.full((1, 4), step % 64)).square().mean())
        strategy.step(1.0)
    return strategy


def saved(store: Store, step: int, rows: list[dict[str, float]] | None = None) -> Path:
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer.checkpoint import TrainState, path_of
    from train_jobs.trainer.checkpoint_writer import Writer

    folder = store.staging("run")
    writer = Writer(store, folder, Ranks())
    writer.save(trained(step), TrainState(step=step, tokens=10 * step, rows=rows or []))
    writer.wait()
    writer.close()
    return Path(path_of(folder, step))


def test_a_checkpoint_holds_weights_optimizer_and_place(store: Store) -> None:
    import torch

    from train_jobs.trainer.checkpoint import latest, restore

    saved(store, 3)
    wanted, other = trained(3), trained(1, seed=9)
    found = latest(store, store.staging("run"))
    assert found is not None
    state = restore(found, other)
    assert (state.step, state.tokens) == (3, 30)
    (ours,), (theirs,) = wanted.optimizers, other.optimizers
    for a, b in zip(wanted.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
        for what in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(ours.state[a][what], theirs.state[b][what])
    fresh = trained(0)
    restore(found, fresh)
    assert fresh.optimizer_state().keys() == wanted.optimizer_state().keys()


@pytest.mark.parametrize("file", ["model-00000-0.safetensors", "optimizer-00000-0.safetensors", "manifest.json"])
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


@pytest.mark.parametrize("file", ["model-00000-0.safetensors", "manifest.json"])
def test_no_bit_may_flip(store: Store, file: str) -> None:
    from train_jobs.trainer.checkpoint import load

    path = saved(store, 2)
    for share in range(0, 100, 7):
        flip_a_bit(path / file, share / 100)
        with pytest.raises(IntegrityError, match=r"damaged|not whole"):
            load(store, str(path))
        flip_a_bit(path / file, share / 100)
    load(store, str(path))


def test_the_newest_two_and_the_best_are_kept(store: Store) -> None:
    from train_jobs.trainer.checkpoint import paths

    rows: list[dict[str, float]] = []
    for step, loss in ((1, 3.0), (2, 1.0), (3, 1.5), (5, 2.0), (6, 2.5)):
        rows.append({"step": step, "held_out_loss": loss})
        saved(store, step, rows)
    assert [Path(p).name for p in paths(store, store.staging("run"))] == ["00000002", "00000005", "00000006"]


def test_what_lies_beyond_the_resumed_step_is_removed(store: Store) -> None:
    from train_jobs.trainer.checkpoint import discard_after

    saved(store, 2)
    (saved(store, 4) / "manifest.json").unlink()
    discard_after(store, store.staging("run"), 2)
    assert [p.name for p in (Path(store.staging("run")) / "checkpoints").iterdir()] == ["00000002"]


def test_what_a_killed_attempt_left_half_goes_with_the_next_checkpoints(store: Store) -> None:
    (saved(store, 1) / "manifest.json").unlink()
    for step in (2, 3):
        saved(store, step)
    assert sorted(p.name for p in (Path(store.staging("run")) / "checkpoints").iterdir()) == ["00000002", "00000003"]


def test_nothing_is_pickled(store: Store) -> None:
    path = saved(store, 2)
    assert {p.name for p in path.iterdir()} == {
        "model-00000-0.safetensors", "optimizer-00000-0.safetensors", "manifest.json",
    }  # fmt: skip
    assert set(json.loads((path / "manifest.json").read_text())) == {"files", "tensors", "state", "sha256"}


def test_the_state_of_a_written_checkpoint_can_be_replaced(store: Store) -> None:
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer.checkpoint import TrainState, latest
    from train_jobs.trainer.checkpoint_writer import Writer

    writer = Writer(store, store.staging("run"), Ranks())
    writer.save(trained(2), TrainState(step=2))
    writer.amend(TrainState(step=2, finished=True, rows=[{"step": 2, "held_out_loss": 1.0}]))
    writer.wait()
    writer.close()
    found = latest(store, store.staging("run"))
    assert found is not None
    assert found.state.finished
    assert found.state.rows == [{"step": 2, "held_out_loss": 1.0}]


def test_each_line_is_kept_once_and_found_up_to_the_resumed_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written twice, put together, torn or dropped on the way."""
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer import rows
    from train_jobs.trainer.checkpoint import TrainState, discard_after, latest, path_of
    from train_jobs.trainer.checkpoint_writer import Writer

    monkeypatch.setattr(rows, "MOST_FILES", 8)
    folder = store.staging("run")
    lines = [{"step": step, "train_loss": 1.0 / step} for step in range(1, 40)]
    for step in range(2, 30, 2):
        rows.write_rows(store, folder, step, lines[:step])
    files = sorted(Path(folder, "rows").iterdir())
    assert len(files) <= 9
    assert sum(len(file.read_text().splitlines()) for file in files) == 28
    measured = {"step": 28, "held_out_loss": 2.0}
    rows.write_rows(store, folder, 28, [*lines[:27], measured])
    assert rows.read_rows(store, folder, 28) == [*lines[:27], measured]
    assert rows.read_rows(store, folder, 17) == lines[:17]
    writer = Writer(store, folder, Ranks())
    writer.save(trained(1), TrainState(step=30, rows=lines[:30]))
    writer.wait()
    writer.close()
    assert "train_loss" not in Path(path_of(folder, 30), "manifest.json").read_text()
    found = latest(store, folder)
    assert found is not None
    assert found.state.rows == [*lines[:27], measured, *lines[28:30]]
    with Path(folder, "rows", "00000030.jsonl").open("a") as file:
        file.write('{"step": 30')
    discard_after(store, folder, 29)
    assert rows.read_rows(store, folder, 40) == [*lines[:27], measured, lines[28]]
    discard_after(store, folder, -1)
    assert rows.read_rows(store, folder, 40) == []


def test_what_is_not_trained_is_left_in_the_base_and_goes_with_no_other(store: Store) -> None:
    import torch

    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer.checkpoint import TrainState, latest, restore
    from train_jobs.trainer.checkpoint_writer import Writer

    strategy, other = trained(3), trained(0, seed=5)
    for one in (strategy, other):
        for name, weight in one.model.named_parameters():
            weight.requires_grad_("norm" in name)
    writer = Writer(store, store.staging("run"), Ranks(), base="a" * 64)
    writer.save(strategy, TrainState(step=3))
    writer.wait()
    writer.close()
    found = latest(store, store.staging("run"))
    assert found is not None
    assert found.base == "a" * 64
    assert found.tensors().keys() == {n for n, w in strategy.model.named_parameters() if w.requires_grad} != set()
    with pytest.raises(IntegrityError, match=r"aaaaaaaa, and here is one with bbbb"):
        restore(found, other, "b" * 64)
    with pytest.raises(IntegrityError, match="here is none"):
        restore(found, other)
    before = {name: weight.detach().clone() for name, weight in other.model.named_parameters()}
    restore(found, other, "a" * 64)
    for (name, mine), theirs in zip(other.model.named_parameters(), strategy.model.parameters(), strict=True):
        assert torch.equal(mine, theirs if mine.requires_grad else before[name])


def test_what_cannot_be_written_is_said_at_the_next_look(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer.checkpoint import TrainState, latest
    from train_jobs.trainer.checkpoint_writer import Writer

    saved(store, 1)

    def full(self: Store, path: str, data: bytes) -> None:
        raise EnvironmentFaultError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(Store, "write", full)
    writer = Writer(store, store.staging("run"), Ranks())
    writer.save(trained(2), TrainState(step=2))
    with pytest.raises(EnvironmentFaultError, match="No space left"):
        writer.wait()
    writer.close()
    found = latest(store, store.staging("run"))
    assert found is not None
    assert found.state.step == 1


def test_a_checkpoint_of_another_model_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from train_jobs.trainer.checkpoint import load, restore

    path = saved(store, 2)
    monkeypatch.setattr(f"{__name__}.SHAPE", dataclasses.replace(SHAPE, vocab=65))
    with pytest.raises(IntegrityError, match="embed_tokens"):
        restore(load(store, str(path)), trained(0))


def test_weights_of_another_shape_are_refused() -> None:
    import dataclasses

    from train_jobs.models.llama import Llama
    from train_jobs.trainer.initial import load_weights

    wider = Llama(dataclasses.replace(SHAPE, vocab=65))
    with pytest.raises(IntegrityError, match="embed_tokens"):
        load_weights(Llama(SHAPE), dict(wider.named_parameters()))


def test_ranks_share_what_all_of_them_hold_and_ranges_are_cut_as_the_reader_needs_them(store: Store) -> None:
    """Two ranks write halves and a shared tensor; one reads all, another a piece across both."""
    import torch

    from train_jobs.distributed.ranks import Ranks
    from train_jobs.distributed.strategy import Shard
    from train_jobs.trainer.checkpoint import MODEL, TrainState, load, path_of
    from train_jobs.trainer.checkpoint_writer import Writer

    class Held:
        def __init__(self, rank: int) -> None:
            half = torch.arange(6.0) + 6 * rank
            self.shards = {
                "cut": Shard(half, 6 * rank, (4, 3)),
                "same": Shard(torch.full((5,), 7.0), 0, (5,), True),
                "too": Shard(torch.full((4,), 8.0), 0, (2, 2), True),
            }

        def weights(self, without: Collection[str] = ()) -> dict[str, Shard]:
            assert not without
            return self.shards

        def optimizer_state(self) -> dict[str, Shard]:
            return {}

    folder = store.staging("run")
    writers = [Writer(store, folder, Ranks(rank, 2)) for rank in (0, 1)]
    for rank, writer in enumerate(writers):
        writer.save(Held(rank), TrainState(step=1))  # type: ignore[arg-type]
    for writer in reversed(writers):
        writer.wait()
        writer.close()
    path = Path(path_of(folder, 1))
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json", "model-00000-0.safetensors", "model-00001-0.safetensors",
    ]  # fmt: skip
    found = load(store, str(path))
    files = {name: row["parts"][0][0] for name, row in found.manifest["tensors"].items() if len(row["parts"]) == 1}
    assert len(set(files.values())) == 2  # "same" by one rank, "too" by the other
    tensors = found.tensors()
    assert torch.equal(tensors["cut"], torch.arange(12.0).view(4, 3))
    assert torch.equal(tensors["same"], torch.full((5,), 7.0))
    piece = Shard(torch.zeros(4), 4, (4, 3))
    found.fill(MODEL, {"cut": piece, "same": Shard(torch.zeros(5), 0, (5,)), "too": Shard(torch.zeros(4), 0, (2, 2))})
    assert piece.local.tolist() == [4.0, 5.0, 6.0, 7.0]
