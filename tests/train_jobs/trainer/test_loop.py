"""The loop in this process, without Ray: what it learns, where it stops, where it goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.registry.runs import RunLog, cancel, read_metrics, read_run
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


@pytest.fixture(autouse=True)
def as_urgent_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop lowers its own priority for good; the test process keeps its."""
    monkeypatch.setattr("train_jobs.trainer.loop.be_nice", lambda: None)


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
    assert last(broken).optimizer == last(straight).optimizer


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(store: Store) -> None:
    straight = make_plan(store, "straight", steps=9)
    run(straight)
    plan = make_plan(store, steps=9, checkpoint_s=1e-6)
    run(plan)
    for name in ("00000009", "00000008"):
        assert (Path(plan.folder) / "checkpoints" / name).is_dir()
    flip_a_bit(Path(plan.folder) / "checkpoints" / "00000009" / "model.safetensors")
    assert run(plan).step == 9
    assert last(plan).model == last(straight).model


def test_by_the_clock_it_ends_in_time(store: Store) -> None:
    plan = make_plan(store, steps=0, budget_s=2.0)
    assert run(plan).state == "finished"
    assert 0.8 <= last(plan).state.elapsed_s < 10
    assert last(plan).state.step > 0


def test_a_run_whose_steps_take_too_long_gives_up_early(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_jobs.trainer.loop.PROBE_S", 0.0)
    plan = make_plan(store, steps=0, budget_s=600.0, slowest_step_s=1e-9)
    ended = run(plan)
    assert ended.state == "too_slow"
    assert ended.step_s > 1e-9
    assert ended.step <= 4
    assert read_run(store, plan.run_id).state == "failed"


def test_a_run_whose_steps_are_fast_enough_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_jobs.trainer.loop.PROBE_S", 0.0)
    monkeypatch.setattr("train_jobs.trainer.loop.FEWEST_STEPS", 6)  # so that steps end it, not a busy machine's clock
    ended = run(make_plan(store, steps=0, passes=1, budget_s=3600.0, slowest_step_s=600.0))
    assert ended.state == "finished"
    assert ended.step >= 6
    assert 0 < ended.step_s < 600.0


def test_a_run_by_steps_is_never_too_slow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_jobs.trainer.loop.PROBE_S", 0.0)
    assert run(make_plan(store, steps=5, slowest_step_s=1e-9)).state == "finished"


def test_by_the_clock_a_limit_of_passes_ends_it_earlier(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.trainer import loop

    monkeypatch.setattr(loop, "FEWEST_STEPS", 1)
    plan = make_plan(store, stage="finetune", steps=0, passes=2, budget_s=60.0)
    trainer = loop.Trainer(plan, Ranks(), store)
    trainer.train()
    assert trainer.state.step == 2 * trainer.batches.steps_per_epoch


def test_a_cancelled_run_keeps_a_checkpoint_and_can_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(store, steps=30)
    looked: Iterator[bool] = iter([False] * 4 + [True] * 100)

    def asked(log: RunLog) -> bool:
        if next(looked):
            cancel(store, plan.run_id)
        return store.exists(store.path("training", plan.run_id, "cancel.json"))

    monkeypatch.setattr(RunLog, "cancelled", asked)
    assert run(plan) == RunOutcome("cancelled", 4, checkpoint=4)
    assert read_run(store, plan.run_id).state == "cancelled"
    monkeypatch.undo()
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
    assert (outcome.state, outcome.step, outcome.checkpoint) == ("failed", 4, 4)
    error = outcome.as_error(plan.run_id)
    assert "not a number at step 5" in error.message
    assert "checkpoint is that of step 4" in error.message
    assert error.extras["checkpoint"] == 4
    assert last(plan).state.step == 4
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
        if path.endswith("optimizer.safetensors"):
            written.append(path)
            if len(written) > 3:
                raise EnvironmentFaultError(f"cannot write {path}: No space left on device")
        real(self, path, data)

    monkeypatch.setattr(Store, "write", write)
    outcome = run(plan)
    error = outcome.as_error(plan.run_id)
    assert isinstance(error, EnvironmentFaultError)
    assert "No space left" in error.message
    assert last(plan).state.step == outcome.checkpoint == outcome.step - 1
    monkeypatch.undo()
    monkeypatch.setattr("train_jobs.trainer.loop.be_nice", lambda: None)
    assert run(plan).step == 30  # once there is space again


@pytest.mark.parametrize("damaged", ["data", "initial"])
def test_inputs_that_do_not_match_their_hash_are_refused(store: Store, damaged: str) -> None:
    base = make_plan(store, "base", steps=2)
    run(base)
    weights = Path(base.folder) / "checkpoints" / "00000002" / "model.safetensors"
    plan = make_plan(store, stage="finetune", initial=str(weights), initial_sha256="0" * 64)
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
