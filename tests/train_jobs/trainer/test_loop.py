"""The loop in this process, without Ray: what it learns, where it stops, where it goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from actors.registry.runs import cancel, read_metrics, read_run
from cluster.core.errors import BadInputError, EnvironmentFaultError, IntegrityError, PlinthError
from cluster.core.storage import Store
from tests.train_jobs.corpora import flip_a_bit
from tests.train_jobs.trainer.plans import make_plan
from train_jobs.distributed.ranks import Ranks
from train_jobs.trainer.outcome import STOP, RunOutcome
from train_jobs.trainer.plan import RunPlan

pytestmark = pytest.mark.process  # torch takes seconds to import


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def run(plan: RunPlan) -> RunOutcome:
    from train_jobs.trainer.loop import run as run_loop

    store = Store(plan.store)
    outcome = Path(plan.folder) / "outcome.json"
    outcome.unlink(missing_ok=True)
    run_loop(plan, Ranks())
    found = RunOutcome.read(store, plan.folder)
    assert found is not None
    return found


def last(plan: RunPlan):
    from train_jobs.trainer.checkpoint import latest

    found = latest(Store(plan.store), plan.folder)
    assert found is not None
    return found


def held_out(plan: RunPlan, name: str = "held_out_loss") -> list[float]:
    return [row[name] for row in last(plan).state.rows if row.get(name) is not None]


def test_pretraining_learns(store: Store) -> None:
    plan = make_plan(store, steps=40)
    assert run(plan) == RunOutcome("finished", 40, checkpoint=40)
    losses = held_out(plan)
    assert losses[0] == pytest.approx(6.2, abs=0.5)  # about the logarithm of the vocabulary: it knows nothing
    assert losses[-1] < losses[0] - 1.5
    assert last(plan).state.finished
    assert read_run(store, plan.run_id).state == "finished"


def test_finetuning_learns_the_completions(store: Store) -> None:
    plan = make_plan(store, stage="finetune", steps=60)
    run(plan)
    losses, accuracy = held_out(plan), held_out(plan, "held_out_accuracy")
    assert losses[-1] < losses[0] / 3
    assert accuracy[0] < 0.1 < 0.25 < accuracy[-1] <= 1.0


def test_rows_carry_step_tokens_seconds_and_stage(store: Store) -> None:
    plan = make_plan(store, steps=10)
    run(plan)
    for row in last(plan).state.rows:
        assert {"step", "tokens", "seconds", "stage", "train_loss", "held_out_loss"} <= set(row)
        assert row["tokens"] == row["step"] * 1024
    assert [r["step"] for r in read_metrics(store, plan.run_id)] == sorted({r["step"] for r in last(plan).state.rows})


def test_an_interrupted_run_goes_on_exactly_where_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = make_plan(store, "straight", steps=12)
    run(straight)
    broken = make_plan(store, "broken", steps=12, checkpoint_s=1e-6)

    from train_jobs.trainer.loop import Trainer

    real = Trainer._step
    taken: list[float] = []

    def step_until_killed(trainer: Trainer, progress: float) -> None:
        if len(taken) == 7:
            raise KeyboardInterrupt  # a kill -9 as this process can survive it: nothing runs after it
        taken.append(progress)
        real(trainer, progress)

    monkeypatch.setattr(Trainer, "_step", step_until_killed)
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    monkeypatch.setattr(Trainer, "_step", real)
    assert last(broken).state.step == 7
    assert run(broken).step == 12
    assert last(broken).model == last(straight).model
    ours, theirs = last(broken).tensors("optimizer"), last(straight).tensors("optimizer")
    assert ours.keys() == theirs.keys()
    assert all(ours[key].equal(theirs[key]) for key in ours)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(store: Store) -> None:
    straight = make_plan(store, "straight", steps=9)
    run(straight)
    plan = make_plan(store, steps=9, checkpoint_s=1e-6)
    run(plan)
    for name in ("00000009", "00000008"):
        assert (Path(plan.folder) / "checkpoints" / name).is_dir()
    flip_a_bit(Path(plan.folder) / "checkpoints" / "00000009" / "model-00000-0.safetensors")
    assert run(plan).step == 9
    assert last(plan).model == last(straight).model


def test_by_the_clock_it_ends_in_time(store: Store) -> None:
    plan = make_plan(store, steps=0, budget_s=2.0)
    assert run(plan).state == "finished"
    assert 0.8 <= last(plan).state.elapsed_s < 10
    assert last(plan).state.step > 0


def test_a_run_whose_steps_take_too_long_gives_up_early(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_jobs.trainer.orders.PROBE_S", 0.0)
    plan = make_plan(store, steps=0, budget_s=600.0, slowest_step_s=1e-9)
    ended = run(plan)
    assert ended.state == "too_slow"
    assert ended.step_s > 1e-9
    assert ended.step <= 4
    assert read_run(store, plan.run_id).state == "failed"


def test_a_run_whose_steps_are_fast_enough_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_jobs.trainer.orders.PROBE_S", 0.0)
    monkeypatch.setattr("train_jobs.trainer.loop.FEWEST_STEPS", 6)  # so that steps end it, not a busy machine's clock
    ended = run(make_plan(store, steps=0, passes=1, budget_s=3600.0, slowest_step_s=600.0))
    assert ended.state == "finished"
    assert ended.step >= 6
    assert 0 < ended.step_s < 600.0


def test_a_run_by_steps_is_never_too_slow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_jobs.trainer.orders.PROBE_S", 0.0)
    assert run(make_plan(store, steps=5, slowest_step_s=1e-9)).state == "finished"


def test_by_the_clock_a_limit_of_passes_ends_it_earlier(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.trainer import loop

    monkeypatch.setattr(loop, "FEWEST_STEPS", 1)
    plan = make_plan(store, stage="finetune", steps=0, passes=2, budget_s=60.0)
    trainer = loop.Trainer(plan, Ranks(), store)
    trainer.begin()
    trainer.train()
    trainer.close()
    assert trainer.state.step == 2 * trainer.batches.steps_per_epoch


def test_a_cancelled_run_keeps_a_checkpoint_and_can_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.trainer.loop import Trainer

    plan = make_plan(store, steps=30, checkpoint_s=1e-6)  # a look after every step
    real = Trainer._step

    def step(trainer: Trainer, progress: float) -> None:
        real(trainer, progress)
        if trainer.state.step == 4 and trainer.wishes is not None:
            cancel(store, plan.run_id)
            trainer.wishes.look()  # what its thread does before long

    monkeypatch.setattr(Trainer, "_step", step)
    assert run(plan) == RunOutcome("cancelled", 4, checkpoint=4)
    assert read_run(store, plan.run_id).state == "cancelled"
    monkeypatch.setattr(Trainer, "_step", real)
    assert run(plan).state == "finished"


def test_the_drivers_wish_stops_it_with_a_checkpoint(store: Store) -> None:
    plan = make_plan(store, steps=30)
    store.write(f"{plan.folder}/{STOP}", b"{}")
    outcome = run(plan)
    assert outcome.state == "interrupted"
    assert last(plan).state.step == outcome.step < 30
    assert not last(plan).state.finished


def test_a_loss_that_is_not_a_number_stops_it_and_names_step_and_checkpoint(store: Store) -> None:
    plan = make_plan(store, steps=30, checkpoint_s=1e-6)
    run(dataclasses.replace(plan, steps=3))
    outcome = run(dataclasses.replace(plan, learning_rate=float("inf")))
    assert (outcome.state, outcome.checkpoint) == ("failed", 3)  # after step 4 no weight is a number: never saved
    error = outcome.as_error(plan.run_id)
    assert "not a number at step 4 of pretrain (batch 2 of pass 2)" in error.message
    assert "checkpoint is that of step 3" in error.message
    assert error.extras["checkpoint"] == 3
    assert last(plan).state.step == 3
    assert read_run(store, plan.run_id).state == "failed"


def test_running_out_of_memory_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr("train_jobs.objectives.causal_lm.NextToken.share_of_loss", no_memory)
    outcome = run(make_plan(store))
    assert outcome.state == "failed"
    assert "out of memory" in outcome.message
    assert "train.batch_tokens" in outcome.message


def test_a_full_disk_stops_it_and_leaves_the_checkpoint_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(store, steps=30, checkpoint_s=1e-6)
    real, written = Store.write, []

    def write(self: Store, path: str, data: bytes) -> None:
        if "/optimizer-" in path:
            written.append(path)
            if len(written) > 3:
                raise EnvironmentFaultError(f"cannot write {path}: No space left on device")
        real(self, path, data)

    monkeypatch.setattr(Store, "write", write)
    outcome = run(plan)
    error = outcome.as_error(plan.run_id)
    assert isinstance(error, EnvironmentFaultError)
    assert "No space left" in error.message
    assert last(plan).state.step == outcome.checkpoint == 3
    assert 3 < outcome.step < 30
    monkeypatch.setattr(Store, "write", real)
    assert run(plan).step == 30  # once there is space again


@pytest.mark.parametrize(
    ("part", "where", "lower"),
    [
        ("data", "train_jobs.objectives.causal_lm.NextToken.load_data", "what else runs"),
        ("model", "train_jobs.objectives.causal_lm.NextToken.build", "train.strategy=fsdp2"),
        ("optimizer's step", "train_jobs.distributed.strategy.Strategy.step", "train.offload"),
        ("evaluation", "train_jobs.objectives.causal_lm.NextToken.evaluate", "train.context_tokens"),
    ],
)
def test_running_out_of_memory_says_where_and_what_to_lower(
    store: Store, monkeypatch: pytest.MonkeyPatch, part: str, where: str, lower: str
) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(where, no_memory)
    outcome = run(make_plan(store))
    assert f"ran out of GPU memory in its {part}: lower" in outcome.message
    assert lower in outcome.message


def test_workers_exchange_nothing_but_gradients_between_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One exchange a look, and looks become rare: about every half second, whatever the number of steps."""
    import torch

    exchanged: list[int] = []
    real = Ranks.add

    def add(ranks: Ranks, tensor: torch.Tensor) -> torch.Tensor:
        exchanged.append(tensor.numel())
        return real(ranks, tensor)

    monkeypatch.setattr(Ranks, "add", add)
    monkeypatch.setattr("train_jobs.trainer.orders.LOOK_S", 1e6)  # as if steps took no time
    assert run(make_plan(store, steps=60, checkpoint_s=1e6)).step == 60
    looks = [n for n in exchanged if n >= 8]
    assert sum(n - 8 for n in looks) == 60  # the losses of all steps travelled
    assert len(looks) == 7  # before the first step, after 1, 3, 7, 15, 31 and 60
    assert len(exchanged) - len(looks) <= 5  # two evaluations, the last checkpoint, and resuming


def test_passes_of_a_step_make_the_same_step(store: Store) -> None:
    whole, cut = make_plan(store, "whole", steps=6), make_plan(store, "cut", steps=6, micro_tokens=100)
    run(whole)
    run(cut)
    ours, theirs = last(cut).tensors(), last(whole).tensors()
    assert any(not ours[name].equal(theirs[name]) for name in ours)  # another order of additions
    for name, weight in ours.items():
        assert float((weight - theirs[name]).abs().max()) < 1e-4, name


def test_with_dropout_a_resumed_run_drops_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.trainer.loop import Trainer

    plan = make_plan(store, "straight", steps=8, dropout=0.2, recompute=True)
    run(plan)
    other = make_plan(store, "plain", steps=8)
    run(other)
    assert last(plan).model != last(other).model
    broken = make_plan(store, "broken", steps=8, dropout=0.2, recompute=True, checkpoint_s=1e-6)
    real = Trainer._step

    def step(trainer: Trainer, progress: float) -> None:
        if trainer.state.step == 5:
            raise KeyboardInterrupt
        real(trainer, progress)

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    monkeypatch.setattr(Trainer, "_step", real)
    run(broken)
    assert last(broken).model == last(plan).model


def test_a_run_that_becomes_no_better_ends_at_its_best(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.objectives.causal_lm import NextToken

    losses = iter([6.0, 5.0, 4.0, 4.5, 4.2, 1.0])  # before the first step, after 2, 4, 6, 8: two without a better one
    monkeypatch.setattr(NextToken, "evaluate", lambda *_: {"held_out_loss": (next(losses), 1.0)})
    plan = make_plan(store, steps=30, evaluate_steps=2, patience=2)
    assert run(plan) == RunOutcome("finished", 4, checkpoint=4)
    found = last(plan)
    assert (found.state.step, found.state.finished) == (4, True)
    assert held_out(plan) == [6.0, 5.0, 4.0]
    shorter = make_plan(store, "shorter", steps=30, evaluate_steps=2)
    monkeypatch.setattr(NextToken, "evaluate", lambda *_: {"held_out_loss": (1.0, 1.0)})
    run(shorter)
    assert last(shorter).state.step == 30


def test_a_checkpoint_is_written_before_its_evaluation(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the evaluation costs no step; the figures are made up for when the run goes on."""
    from train_jobs.objectives.causal_lm import NextToken

    plan = make_plan(store, steps=6, evaluate_steps=3)
    real, asked = NextToken.evaluate, []

    def evaluate(*arguments: object) -> object:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(NextToken, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        run(plan)
    assert last(plan).state.step == 3
    run(plan)
    assert [row["step"] for row in last(plan).state.rows if row["held_out_loss"] is not None] == [0, 3, 6]


def test_the_step_that_went_wrong_is_named_also_between_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.distributed.strategy import Strategy

    monkeypatch.setattr("train_jobs.trainer.orders.LOOK_S", 1e6)
    real, steps = Strategy.step, []

    def step(strategy: Strategy, factor: float):
        steps.append(factor)
        return real(strategy, factor) * (float("nan") if len(steps) == 6 else 1.0)

    monkeypatch.setattr(Strategy, "step", step)
    outcome = run(make_plan(store, steps=30, checkpoint_s=1e6))
    assert outcome.state == "failed"
    assert "not a number at step 6 " in outcome.message
    assert len(steps) > 6  # nobody looked after each step


@pytest.mark.parametrize("damaged", ["data", "initial"])
def test_inputs_that_do_not_match_their_hash_are_refused(store: Store, damaged: str) -> None:
    base = make_plan(store, "base", steps=2)
    run(base)
    weights = Path(base.folder) / "checkpoints" / "00000002" / "model-00000-0.safetensors"
    files = {weights.name: "0" * 64}
    plan = make_plan(store, stage="finetune", initial=str(weights.parent), initial_files=files)
    if damaged == "data":
        flip_a_bit(plan.data)
    outcome = run(plan)
    assert isinstance(outcome.as_error("x"), IntegrityError)


def test_an_ended_run_is_not_started_again_by_a_restarted_group(store: Store) -> None:
    from train_jobs.trainer.loop import run as run_loop

    plan = make_plan(store)
    RunOutcome("failed", 3, "no", error="TrainingError").write(store, plan.folder)
    run_loop(plan, Ranks())
    assert not (Path(plan.folder) / "checkpoints").exists()


def test_errors_come_back_as_what_they_were_and_unknown_ones_as_training_errors() -> None:
    assert type(RunOutcome("failed", 1, "x", error="BadInputError").as_error("r")) is BadInputError
    for odd in ("", "KeyError", "ExitCode", "Enum", "DivergedError"):
        assert type(RunOutcome("failed", 1, "x", error=odd).as_error("r")).__name__ == "TrainingError"
    assert issubclass(type(RunOutcome("failed", 1, "x").as_error("r")), PlinthError)


def test_money_stops_a_run_of_steps_with_a_checkpoint_and_finishes_nothing(store: Store) -> None:
    plan = make_plan(store, steps=40, checkpoint_s=1e6, money=1e-9, price_per_hour=1.0)
    outcome = run(plan)
    assert outcome.state == "interrupted"
    assert outcome.checkpoint == outcome.step < 40
    assert not last(plan).state.finished
    assert run(dataclasses.replace(plan, money=0.0)).step == 40


def test_a_limit_of_tokens_ends_with_the_step_that_reaches_it(store: Store) -> None:
    plan = make_plan(store, steps=0, tokens=5000)
    run(plan)
    assert 5000 <= last(plan).state.tokens < 5000 + plan.batch_tokens


def test_adapters_keep_their_own_dropout() -> None:
    from torch import nn

    from train_jobs.trainer.initial import set_dropout

    network = nn.ModuleDict({"mlp": nn.Dropout(0.5), "lora_dropout": nn.ModuleDict({"default": nn.Dropout(0.1)})})
    set_dropout(network, 0.0)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.0, 0.1]
