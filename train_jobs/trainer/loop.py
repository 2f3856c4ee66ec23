"""The training loop of one worker: it resumes, steps, logs, writes checkpoints and stops. It does not know Ray.

Between looks the workers take steps and tell each other nothing but gradients; losses stay on the device. At a look,
about every half second, losses are read, and rank 0 tells the others what it decided: it knows the clock and what
people want. So all take the same steps. Weights and the order of the data follow from the plan alone: a resumed run
goes on exactly where its last checkpoint was, and any number of workers takes the same steps, up to rounding.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from actors.registry.runs import RunLog
from cluster.core.errors import EnvironmentFaultError, PlinthError, TrainingError
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from train_jobs.distributed.ranks import Ranks
from train_jobs.distributed.strategies import make_strategy
from train_jobs.distributed.strategy import Settings, Strategy
from train_jobs.objectives.protocol import load_objective
from train_jobs.trainer import checkpoint, compilation, termination, watchdog
from train_jobs.trainer.budget import Spent, budget_of
from train_jobs.trainer.checkpoint import Checkpoint, TrainState
from train_jobs.trainer.checkpoint_writer import Writer
from train_jobs.trainer.initial import base_of, first_network, set_dropout
from train_jobs.trainer.memory import as_failure
from train_jobs.trainer.meters import Meters, meters_of
from train_jobs.trainer.optimizer import make_optimizers
from train_jobs.trainer.orders import EARLY, FINISHED, TERMINATED, TOO_SLOW, Orders, Pilot
from train_jobs.trainer.outcome import Ended, RunOutcome
from train_jobs.trainer.plan import RunPlan
from train_jobs.trainer.precision import choose_precision, computing_in
from train_jobs.trainer.priority import be_nice
from train_jobs.trainer.privacy import books_closed, private_steps
from train_jobs.trainer.schedule import counted_seconds, learning_rate
from train_jobs.trainer.wishes import Wishes

MAX_NORM = 1.0
LOG_S = 0.5
FEWEST_STEPS = 250  # A limit of passes over the data ends no run before this step: so many it takes to learn at all.


def run(plan: RunPlan, ranks: Ranks) -> None:
    """Train until the budget is used, the run is cancelled or something breaks; rank 0 leaves an ``RunOutcome``.

    Raises:
        PlinthError: this worker cannot go on (disk full, damaged inputs, no memory). Others are left waiting for it, so
            the whole group has to end; a restarted group finds the outcome and does not try again.
        TerminatedError: SIGTERM; a checkpoint was written, another attempt goes on.
    """
    store = Store(plan.store)
    if RunOutcome.read(store, plan.folder) is not None:
        return
    be_nice()
    torch.set_num_threads(ranks.threads)
    trainer = Trainer(plan, ranks, store)
    try:
        with termination.Run():
            trainer.begin()
            trainer.train()
    except (PlinthError, MemoryError, RuntimeError) as error:
        failure = as_failure(error, trainer.part, plan)
        if failure is None:
            raise  # a peer died, or somebody ended this one: Ray Train starts the group again
        trainer.close()
        written = False
        with contextlib.suppress(EnvironmentFaultError):  # a full disk has no room for the outcome either
            saved = checkpoint.newest_step(store, plan.folder)
            step = trainer.state.step
            RunOutcome("failed", step, failure.message, saved, type(failure).__name__).write(store, plan.folder)
            written = True
        if trainer.log is not None:
            with contextlib.suppress(EnvironmentFaultError):
                trainer.log.finish("failed", failure.message)
        if not written or (ranks.size > 1 and not isinstance(error, DivergedError)):
            raise failure from error  # others, or without an outcome the driver, wait for this one
    finally:
        trainer.close()


class DivergedError(TrainingError):
    """The loss or the gradient is not a number."""


class Trainer:
    """One worker's state. ``begin`` makes it ready, ``train`` runs it to its end, ``close`` ends its threads.

    Attributes:
        part: what it is busy with, for the message of a worker without memory.
        meters: of rank 0, for the run's books.
        losses, norms: of the steps since the last look: this rank's shares, the gradients' norms; on the device.
    """

    def __init__(self, plan: RunPlan, ranks: Ranks, store: Store) -> None:
        self.plan, self.ranks, self.store, self.device = plan, ranks, store, ranks.device
        self.objective = load_objective(plan.objective)
        self.state, self.part = TrainState(), "data"
        self.log: RunLog | None = None
        self.wishes: Wishes | None = None
        self.writer = Writer(store, plan.folder, ranks, base_of(plan))
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.read: list[float] = []  # losses that were read and not logged yet
        self.meters = Meters()
        self.tokens_of_step = 0

    def begin(self) -> None:
        """Read the data, build the network, share it, and go back to the newest checkpoint that is whole.

        Raises:
            IntegrityError: an input is damaged.
        """
        plan, ranks = self.plan, self.ranks
        with watchdog.during("load data"):
            self.batches, self.held_out = self.objective.load_data(plan, self.store, ranks)
        self.part = "model"
        with watchdog.during("build model"):
            network = first_network(plan, self.objective, ranks, self.store)
            self.private, self.batches = private_steps(plan, self.objective, self.batches, ranks)
        self.micro = math.ceil(plan.batch_tokens / (ranks.size * plan.micro_tokens)) if plan.micro_tokens else 1
        self.shares = ranks.size * (1 if self.private is not None else self.micro)
        with watchdog.during("resume"):
            found = self._newest()
            self.state = found.state if found else self._first_state(network)
            self.strategy: Strategy = make_strategy(plan.strategy, ranks, self._settings())
            self._prepare(network, found)
        self.budget = budget_of(plan, self.batches, self.state.startup_s, FEWEST_STEPS)
        self.pilot = Pilot(plan, self.budget, self.state.step)
        self.started = time.monotonic() - self.state.elapsed_s
        self.began, self.began_cpu, self.counted_before = time.monotonic(), time.process_time(), self.state.counted_s
        self.pilot.saved_at = self.logged_at = self.state.elapsed_s
        self.logged_tokens = self.state.tokens
        if ranks.rank == 0:
            self.log = RunLog(self.store, plan.run_id, plan.stage, self._parameters(), plan.inputs)
            self.wishes = Wishes(self.log, self.store, plan.folder)
            self.meters = meters_of(plan, ranks)

    def close(self) -> None:
        """End the threads; what was begun is written."""
        self.writer.close()
        if self.wishes is not None:
            self.wishes.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds of stepping by the clock, earlier attempts included."""
        return time.monotonic() - self.started

    @property
    def counted_s(self) -> float:
        """Of those the seconds that count against the budget."""
        wall, cpu = time.monotonic() - self.began, time.process_time() - self.began_cpu
        return self.counted_before + counted_seconds(wall, cpu, self.ranks.threads, self.device.type)

    @property
    def spent(self) -> Spent:
        """What the run has used up of its budget."""
        return Spent(self.state.step, self.counted_s, self.elapsed_s)

    def train(self) -> None:
        """Take steps until rank 0 says stop; then write the last checkpoint, evaluate and say how it ended.

        Raises:
            DivergedError: the loss or the gradient is not a number.
            EnvironmentFaultError: the disk is full.
            TerminatedError: SIGTERM; the checkpoint is written.
        """
        while True:
            orders = self._look()
            if orders.save:
                with watchdog.during("save"):
                    self._save()
            if orders.evaluate:
                with watchdog.during("evaluate"):
                    self._evaluate()
            if orders.stop:
                with watchdog.during("end"):
                    self._end(orders.stop)
                return
            for _ in range(orders.steps):
                self._step(orders.progress_at(self.state.step))

    # -- looks ---------------------------------------------------------------------------------------------------------
    def _look(self) -> Orders:
        """Read the losses of the steps since the last look and hear what rank 0 decides: one exchange, one read."""
        self.part = "forward and backward pass"
        self.writer.check()
        orders = self._decide() if self.log is not None else Orders()
        packed = torch.tensor([*orders.numbers(), float(termination.asked())], dtype=torch.float64, device=self.device)
        if self.losses:
            packed = torch.cat([packed, torch.stack(self.losses).double()])
        values = self.ranks.add(packed).tolist()
        norms = torch.stack(self.norms).tolist() if self.norms else []
        orders, losses = Orders.of(values), values[Orders.LENGTH + 1 :]
        if losses:  # they have arrived: the steps are done, on a GPU too
            watchdog.beat()
            if self.log is not None and self.state.step == self.pilot.first + 1:
                self.log.note(startup_seconds=watchdog.startup_seconds())
        self._require_numbers(losses, norms)
        self.losses, self.norms = [], []
        self.read += losses
        if not books_closed(self.plan):
            self.meters.read(norms)
        if values[Orders.LENGTH]:
            orders = Orders(save=True, stop=TERMINATED)
        due = self.elapsed_s - self.logged_at >= max(LOG_S, self.budget.seconds / 500, self.elapsed_s / 500)
        if self.log is not None and self.read and (orders.stop or due):
            self._log_step(orders.progress_at(self.state.step))
        return orders

    def _decide(self) -> Orders:
        """What rank 0 wants of all ranks until the next look."""
        if self.wishes is None:
            return Orders()
        wanted = self.wishes.cancelled, self.wishes.interrupted
        return self.pilot.decide(self.state, self.elapsed_s, self.counted_s, *wanted)

    def _require_numbers(self, losses: list[float], norms: list[float]) -> None:
        for index, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._diverged(self.state.step - len(losses) + index + 1)

    def _diverged(self, step: int) -> None:
        self.writer.wait()
        saved = checkpoint.newest_step(self.store, self.plan.folder)
        last = (
            f"the last good checkpoint is that of step {saved}" if saved is not None else "there is no checkpoint yet"
        )
        epoch, within = divmod(step - 1, self.batches.steps_per_epoch)
        raise DivergedError(
            f"the loss is not a number at step {step} of {self.plan.stage} (batch {within + 1} of pass {epoch + 1}): "
            f"{last}; nothing was published. Lower train.learning_rate (now {self.plan.learning_rate:g}) or change "
            "train.seed", step=step, checkpoint=saved,
        )  # fmt: skip

    # -- one step ------------------------------------------------------------------------------------------------------
    def _step(self, progress: float) -> None:
        plan, ranks, step = self.plan, self.ranks, self.state.step
        torch.manual_seed(hash((plan.seed, step, ranks.rank)))  # what is dropped is so after a resume, too
        loss = self._backward(step)
        self.part = "optimizer's step"
        self.norms.append(self.strategy.step(learning_rate(progress, 1.0, plan.schedule)))
        self.part = "forward and backward pass"
        self.losses.append(loss)
        self.state.step += 1
        self.state.tokens += self.tokens_of_step
        self.meters.step(self.tokens_of_step)

    def _backward(self, step: int) -> Tensor:
        """Gradients of the step's loss on all ranks; gives this rank's share of the loss."""
        if self.private is not None:
            batch = self._batch(step, 0)
            return self.private.backward(self.strategy.model, batch, step)
        loss = torch.zeros((), device=self.device)
        for part in range(self.micro):
            batch = self._batch(step, part)
            self.strategy.exchange(part == self.micro - 1)
            with computing_in(self.state.precision, self.device.type):
                share = self.objective.share_of_loss(self.strategy.network, batch)
            self.strategy.backward(share)
            loss = loss + share.detach()
        return loss

    def _batch(self, step: int, part: int) -> Any:
        """This rank's share of a step's pass; passes of one rank are shares like those of ranks: together they make
        the same step."""
        with self.meters.waiting():
            batch = self.batches.batch(step, self.ranks.rank + part * self.ranks.size, self.shares)
        self.tokens_of_step = batch.tokens
        return batch

    # -- books ---------------------------------------------------------------------------------------------------------
    def _log_step(self, progress: float) -> None:
        elapsed, tokens = self.elapsed_s, self.state.tokens
        speed = (tokens - self.logged_tokens) / max(1e-9, elapsed - self.logged_at)
        rate = learning_rate(progress, self.plan.learning_rate, self.plan.schedule)
        loss = None if books_closed(self.plan) else sum(self.read) / len(self.read)
        measured = self.meters.row(loss, self.budget.remaining_s(self.spent))
        self._row(train_loss=loss, tokens_per_s=round(speed), learning_rate=rate, **measured)
        self.logged_at, self.logged_tokens, self.read = elapsed, tokens, []

    def _row(self, **values: float | None) -> None:
        """Add what was measured at this step to metrics.jsonl and to the run's log."""
        if self.log is None:
            return
        base = {"step": self.state.step, "tokens": self.state.tokens, "seconds": round(self.elapsed_s, 2)}
        done = round(self.budget.done(self.spent), 4)
        if not self.state.rows or self.state.rows[-1]["step"] != self.state.step:
            self.state.rows.append({**base, "stage": self.plan.stage, "train_loss": None, "held_out_loss": None})
        self.state.rows[-1].update(values)
        self.log.log(self.state.step, tokens=self.state.tokens, seconds=base["seconds"], done=done, **values)

    def _evaluate(self) -> None:
        """What the objective reports of the held-out side, the loss among it; the checkpoint of this step learns it."""
        self.part, began = "evaluation", time.monotonic()
        model = self.strategy.model
        model.eval()
        with computing_in(self.state.precision, self.device.type):
            mine = self.objective.evaluate(model, self.held_out)
        model.train()
        packed = torch.tensor(list(mine.values()), dtype=torch.float64, device=self.device)
        sums = self.ranks.add(packed).tolist()
        found = {name: total / count for name, (total, count) in zip(mine, sums, strict=True) if count}
        if found:
            self._row(**found)
        if self.pilot.saved_step == self.state.step:
            self.writer.amend(self.state)
        self.pilot.evaluated_s += time.monotonic() - began

    def _save(self) -> None:
        """Have a checkpoint of this step written, unless there is one."""
        self.part = "checkpoint"
        self.state.elapsed_s, self.state.counted_s = self.elapsed_s, self.counted_s
        if self.pilot.saved_step != self.state.step:
            sums = [part.local.sum(dtype=torch.float64).to(self.device) for part in self.strategy.weights().values()]
            if not math.isfinite(float(self.ranks.add(torch.stack(sums).sum()))):
                self._diverged(self.state.step)
            self.writer.save(self.strategy, self.state)
        self.pilot.saved_step, self.pilot.saved_at = self.state.step, self.elapsed_s

    def _end(self, stop: int) -> None:
        self.state.finished = stop == FINISHED
        if self.state.finished:
            self.writer.amend(self.state)
        self.writer.wait()
        if stop == TERMINATED:
            raise termination.TerminatedError(f"a worker was told to end at step {self.state.step}: saved, to go on")
        if self.log is None:
            return
        best = checkpoint.best_step(self.state.rows)
        if stop == EARLY and best is not None:
            self.state = checkpoint.finish_at(self.store, self.plan.folder, best)
            log_event("train", "stopped_early", run=self.plan.run_id, best=best)
        how: Ended = {TOO_SLOW: "too_slow", 2: "cancelled", 3: "interrupted"}.get(stop, "finished")  # type: ignore[assignment]
        ended = RunOutcome(how, self.state.step, checkpoint=self.state.step, step_s=self.pilot.step_s)
        ended.write(self.store, self.plan.folder)
        if how == "finished":
            self.log.finish("finished")
        elif how == "too_slow":
            self.log.finish("failed", f"given up: a step takes {ended.step_s:.1f} s on this machine")
        else:
            self.log.finish("cancelled", "" if how == "cancelled" else "interrupted; the same command goes on")

    # -- the beginning -------------------------------------------------------------------------------------------------
    def _newest(self) -> Checkpoint | None:
        """The newest whole checkpoint, the same on every rank; what lies beyond it is removed."""
        folder = self.plan.folder
        found = checkpoint.latest_of_group(self.store, folder, self.ranks)
        if self.ranks.rank == 0:
            checkpoint.discard_after(self.store, folder, found.state.step if found else -1)
        self.ranks.from_first([0.0])  # nobody writes before that
        return found

    def _first_state(self, network: nn.Module) -> TrainState:
        chosen = False
        if self.ranks.rank == 0:
            chosen = choose_precision(self.plan, network, self.batches, self.objective, self.device, self.shares)
        startup, code = self.ranks.from_first([max(0.0, time.time() - self.plan.started_at), float(chosen)])
        return TrainState(startup_s=startup, precision="bf16" if code else "fp32")

    def _prepare(self, network: nn.Module, found: Checkpoint | None) -> None:
        plan, layers = self.plan, getattr(self.objective, "blocks", self.plan.model.blocks)
        blocks = layers(network)
        set_dropout(network, plan.dropout)
        if plan.compile:
            compilation.tell_watchdog()
        self.strategy.prepare(
            network, blocks,
            lambda model: make_optimizers(plan.optimizer, model, blocks, plan.learning_rate, plan.weight_decay),
        )  # fmt: skip
        if found is not None:
            checkpoint.restore(found, self.strategy, base_of(plan))
            log_event("train", "resumed", run=plan.run_id, step=self.state.step, rank=self.ranks.rank)

    def _settings(self) -> Settings:
        plan = self.plan
        return Settings(self.state.precision, MAX_NORM, plan.zero_stage, plan.offload, plan.recompute, plan.compile)

    def _parameters(self) -> dict[str, Any]:
        plan = self.plan
        kept = ("batch_tokens", "learning_rate", "seed", "steps", "budget_s", "precision", "strategy", "optimizer")
        return {
            **{name: getattr(plan, name) for name in kept}, **plan.model.to_dict(), "workers": self.ranks.size,
            "parameters": plan.model.parameters, "resumed_at_step": self.state.step, "device": str(self.device),
            "threads": torch.get_num_threads(),
        }  # fmt: skip
