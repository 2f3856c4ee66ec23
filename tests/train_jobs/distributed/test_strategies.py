"""Every strategy on two workers takes the steps that one worker takes, and goes on from any other's checkpoint.

Two groups of plain processes with gloo on loopback, without Ray: one of two workers carries out all runs, one of one.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.core.storage import Store
from tests.conftest import needs
from tests.train_jobs.distributed.groups import Order, copied, train
from tests.train_jobs.trainer.plans import make_plan
from train_jobs.trainer.plan import RunPlan

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(900)]
STEPS = 20
KINDS: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp2": {"strategy": "fsdp2"},
    "zero1": {"strategy": "deepspeed", "zero_stage": 1},
    "zero2": {"strategy": "deepspeed", "zero_stage": 2},
    "zero3": {"strategy": "deepspeed", "zero_stage": 3},
    "offload": {"strategy": "deepspeed", "zero_stage": 2, "offload": True},
}
# Other ways to compute the same steps: in passes, once in more of them than there are rows, and recomputing.
WAYS: dict[str, dict[str, Any]] = {
    "ddp in passes": {"strategy": "ddp", "micro_tokens": 30},
    "fsdp2 in passes, recomputing": {"strategy": "fsdp2", "micro_tokens": 300, "recompute": True},
    "zero2 in passes": {"strategy": "deepspeed", "zero_stage": 2, "micro_tokens": 300},
    "zero3 recomputing": {"strategy": "deepspeed", "zero_stage": 3, "recompute": True},
}
RELAY = (("zero3", 5), ("fsdp2", 10), ("zero1", 15), ("ddp", 0))  # one run, handed on at these steps
MUON = {"optimizer": "muon", "schedule": "wsd"}


@dataclass
class Ran:
    """What the groups did: of each run the steps' losses and norms, and the plan."""

    plans: dict[str, RunPlan]
    steps: dict[str, list[tuple[float, float]]]

    def weights(self, name: str) -> bytes:
        from train_jobs.trainer.checkpoint import latest

        found = latest(Store(self.plans[name].store), self.plans[name].folder)
        assert found is not None
        assert found.state.finished
        return found.model


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    needs(importlib.util.find_spec("deepspeed") is not None, "the package deepspeed (make install-dev)")
    folder = tmp_path_factory.mktemp("group")
    base = make_plan(Store(str(folder / "store")), "data", steps=STEPS, evaluate_steps=5)
    orders: dict[str, Order] = {}
    for name, changes in {**KINDS, **WAYS}.items():
        orders[name] = (copied(base, name.replace(" ", "-").replace(",", ""), **changes), 0)
    for name, stop in RELAY:
        orders[f"relay {name}"] = (copied(base, "relay", **KINDS[name]), stop)
    for name in ("ddp", "fsdp2", "zero3"):
        for part, stop in (("begun", 10), ("resumed", 0)):
            orders[f"{name} {part}"] = (copied(base, f"{name}-broken", **KINDS[name]), stop)
    for name in ("ddp", "fsdp2"):
        orders[f"{name} muon"] = (copied(base, f"{name}-muon", **KINDS[name], **MUON), 0)
    orders["for one"] = (copied(base, "for-one", **KINDS["fsdp2"]), 10)
    alone: dict[str, Order] = {
        "one": (copied(base, "one"), 0),
        "for one, resumed": (copied(base, "for-one"), 0),
        "one muon": (copied(base, "one-muon", **MUON), 0),
        "one zero2": (copied(base, "one-zero2", **KINDS["zero2"]), 0),
    }
    steps = dict(zip(orders, train(folder / "two", list(orders.values()), 2), strict=True))
    steps |= dict(zip(alone, train(folder / "one", list(alone.values()), 1), strict=True))
    return Ran({name: plan for name, (plan, _) in {**orders, **alone}.items()}, steps)


def assert_same(steps: list[tuple[float, float]], wanted: list[tuple[float, float]]) -> None:
    assert len(steps) == len(wanted) > 0
    for (loss, norm), (its, norms) in zip(steps, wanted, strict=True):
        assert loss == pytest.approx(its, rel=1e-5)
        assert norm == pytest.approx(norms, rel=1e-4)


@pytest.mark.parametrize("name", [*KINDS, *WAYS, "one zero2"])
def test_the_steps_are_those_of_one_worker(ran: Ran, name: str) -> None:
    assert len(ran.steps[name]) == STEPS
    assert ran.steps["one"][-1][0] < ran.steps["one"][0][0] - 1
    assert_same(ran.steps[name], ran.steps["one"])


def test_a_run_goes_on_under_other_strategies(ran: Ran) -> None:
    steps = [step for name, _ in RELAY for step in ran.steps[f"relay {name}"]]
    assert [len(ran.steps[f"relay {name}"]) for name, _ in RELAY] == [5, 5, 5, 5]
    assert_same(steps, ran.steps["one"])


def test_a_run_of_two_workers_goes_on_with_one(ran: Ran) -> None:
    assert [len(ran.steps[name]) for name in ("for one", "for one, resumed")] == [10, 10]
    assert_same(ran.steps["for one"] + ran.steps["for one, resumed"], ran.steps["one"])


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero3"])
def test_a_resumed_run_ends_with_the_bytes_of_one_that_was_not_interrupted(ran: Ran, name: str) -> None:
    assert len(ran.steps[f"{name} resumed"]) == 10
    assert ran.weights(f"{name} resumed") == ran.weights(name)


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_muon_takes_whole_matrices_also_where_they_are_in_parts(ran: Ran, name: str) -> None:
    """Its products run in bfloat16, so that a different order of additions shows after some steps."""
    ours, theirs = ran.steps[f"{name} muon"], ran.steps["one muon"]
    assert theirs[-1][0] < theirs[0][0] - 1
    assert [loss for loss, _ in ours] == pytest.approx([loss for loss, _ in theirs], rel=2e-2)
    assert ours[1][0] == pytest.approx(theirs[1][0], rel=1e-4)


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero3"])
def test_every_worker_wrote_its_part(ran: Ran, name: str) -> None:
    found = sorted((Path(ran.plans[name].folder) / "checkpoints" / f"{STEPS:08d}").iterdir())
    assert [path.name for path in found] == [
        "manifest.json", "model-00000-0.safetensors", "model-00001-0.safetensors", "optimizer-00000-0.safetensors",
        "optimizer-00001-0.safetensors",
    ]  # fmt: skip
    sizes = [path.stat().st_size for path in found if path.name.startswith("model")]
    assert max(sizes) < 1.5 * min(sizes)


def test_held_out_losses_are_those_of_one_worker(ran: Ran) -> None:
    from train_jobs.trainer.checkpoint import latest

    def rows(name: str) -> list[float]:
        plan = ran.plans[name]
        found = latest(Store(plan.store), plan.folder)
        assert found is not None
        return [row["held_out_loss"] for row in found.state.rows if row["held_out_loss"] is not None]

    assert len(rows("one")) == 5  # before the first step, at 5, 10, 15 and 20
    for name in ("ddp", "fsdp2", "zero3", "relay ddp", "for one, resumed"):
        assert rows(name) == pytest.approx(rows("one"), rel=1e-5), name


def test_deepspeed_refuses_an_optimizer_that_needs_whole_matrices(tmp_path: Path, home: Path) -> None:
    del home
    from cluster.core.errors import UsageError
    from train_jobs.distributed.deepspeed import DeepSpeed
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.distributed.strategy import Settings
    from train_jobs.trainer.optimizer import make_optimizers

    needs(importlib.util.find_spec("deepspeed") is not None, "the package deepspeed (make install-dev)")
    plan = dataclasses.replace(make_plan(Store(str(tmp_path))), strategy="deepspeed")
    network = plan.model.build()
    blocks = plan.model.blocks(network)
    with pytest.raises(UsageError, match=r"train\.optimizer=adamw"):
        DeepSpeed(Ranks(), Settings()).prepare(
            network, blocks, lambda model: make_optimizers("muon", model, blocks, 1e-3)
        )
