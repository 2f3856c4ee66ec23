"""The training loop of one worker: it resumes, steps, logs, writes checkpoints and stops. It does not know Ray.

Before every step rank 0 looks at the clock, asks whether somebody cancelled the run, and tells the other workers what
it decided; so all of them take the same steps. Weights and the order of the data follow from the plan alone: a resumed
run goes on exactly where its last checkpoint was, and any number of workers takes the same steps, up to rounding.
"""

from __future__ import annotations

import contextlib
import math
import os
import posixpath
import time
from typing import Any

import torch
from torch import nn

from actors.registry.runs import RunLog
from cluster.core.errors import EnvironmentFaultError, PlinthError, TrainingError
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from train_jobs.distributed.ranks import Ranks
from train_jobs.models.weights import read_weights
from train_jobs.objectives.protocol import load_objective
from train_jobs.trainer import checkpoint, watchdog
from train_jobs.trainer.checkpoint import TrainState
from train_jobs.trainer.optimizer import make_optimizer
from train_jobs.trainer.outcome import STOP, Ended, RunOutcome
from train_jobs.trainer.plan import RunPlan
from train_jobs.trainer.precision import choose_precision, computing_in
from train_jobs.trainer.schedule import Budget, counted_seconds, learning_rate, train_seconds

NICENESS = 10  # Training waits for the replicas of the service, which answer people.
MAX_NORM = 1.0
LOG_S = 0.5
FEWEST_STEPS = 250  # A limit of passes over the data ends no run before this step: so many it takes to learn at all.
STOPS: tuple[Ended, ...] = ("finished", "cancelled", "interrupted", "too_slow")
# A run that must not be too slow is measured over so many seconds and steps after its first one, which warms up.
PROBE_S, PROBE_STEPS = 5.0, 2


def run(plan: RunPlan, ranks: Ranks) -> None:
    """Train until the budget is used, the run is cancelled or something breaks; rank 0 leaves an ``RunOutcome``.

    Raises:
        PlinthError: this worker cannot go on (disk full, damaged inputs, no memory). Others are left waiting for it, so
            the whole group has to end; a restarted group finds the outcome and does not try again.
    """
    store = Store(plan.store)
    if RunOutcome.read(store, plan.folder) is not None:
        return
    be_nice()
    torch.set_num_threads(ranks.threads)
    trainer: Trainer | None = None
    try:
        trainer = Trainer(plan, ranks, store)
        trainer.train()
    except (PlinthError, MemoryError, RuntimeError) as error:
        failure = as_failure(error)
        if failure is None:
            raise  # a peer died: Ray Train starts the group again
        step = trainer.state.step if trainer else 0
        with contextlib.suppress(EnvironmentFaultError):  # a full disk has no room for the outcome either
            saved = last_checkpoint(store, plan.folder)
            RunOutcome("failed", step, failure.message, saved, type(failure).__name__).write(store, plan.folder)
        if trainer is not None and trainer.log is not None:
            with contextlib.suppress(EnvironmentFaultError):
                trainer.log.finish("failed", failure.message)
        if ranks.size > 1 and not isinstance(error, DivergedError):  # which all ranks see at the same step
            raise failure from error  # the others wait for this one: the group has to end


class DivergedError(TrainingError):
    """The loss or the gradient is not a number."""


def as_failure(error: PlinthError | MemoryError | RuntimeError) -> PlinthError | None:
    """The error a person should read, or None where trying again may help."""
    if isinstance(error, PlinthError):
        return error
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return TrainingError(
            "a training worker ran out of memory: lower train.batch_tokens, train.workers or the model's size, or free "
            "some memory; nothing was published"
        )
    return None


def last_checkpoint(store: Store, folder: str) -> int | None:
    """The step of the newest checkpoint below a run's folder (not verified), None where there is none."""
    found = checkpoint.paths(store, folder)
    return int(posixpath.basename(found[-1])) if found else None


class Trainer:
    """One worker's state. ``train`` runs it to its end."""

    def __init__(self, plan: RunPlan, ranks: Ranks, store: Store) -> None:
        self.plan, self.ranks, self.store = plan, ranks, store
        self.objective = load_objective(plan.objective)
        with watchdog.during("load data"):
            self.batches, self.held_out = self.objective.load_data(plan, store, ranks)
        with watchdog.during("build model"):
            self.model = self.objective.build(plan)
            if plan.initial:
                load_initial(plan, store, self.model)
            self.optimizer = make_optimizer(plan.optimizer, self.model, plan.learning_rate)
        with watchdog.during("resume"):
            self.state = self._resume()
        self.network = ranks.wrap(self.model)
        most = max(FEWEST_STEPS, plan.passes * self.batches.steps_per_epoch) if plan.passes else 0
        self.budget = Budget(plan.steps, train_seconds(plan.budget_s, self.state.startup_s), most)
        self.started = time.monotonic() - self.state.elapsed_s
        self.began, self.began_cpu, self.counted_before = time.monotonic(), time.process_time(), self.state.counted_s
        self.probe: tuple[int, float] | None = None  # step and counted seconds from which a step is measured
        self.first, self.step_s = self.state.step, 0.0
        self.saved_at = self.logged_at = self.state.elapsed_s
        self.looked_at = 0.0
        self.losses: list[float] = []
        self.logged_tokens = self.state.tokens
        self.log: RunLog | None = None
        if ranks.rank == 0:
            self.log = RunLog(store, plan.run_id, plan.stage, self._parameters(), plan.inputs)

    @property
    def elapsed_s(self) -> float:
        """Seconds of stepping by the clock, earlier attempts included."""
        return time.monotonic() - self.started

    @property
    def counted_s(self) -> float:
        """Of those the seconds that count against the budget."""
        wall, cpu = time.monotonic() - self.began, time.process_time() - self.began_cpu
        return self.counted_before + counted_seconds(wall, cpu, self.ranks.threads)

    def train(self) -> None:
        """Take steps until rank 0 says stop; then evaluate, write the last checkpoint and say how it ended.

        Raises:
            DivergedError: the loss or the gradient is not a number.
            EnvironmentFaultError: the disk is full.
        """
        while True:
            progress, elapsed, save, stop = self.ranks.from_first(self._orders())
            self.state.elapsed_s = elapsed
            if save or (self.state.step == 0 and not self.state.rows):
                with watchdog.during("evaluate"):
                    self._evaluate()
            if save:
                self.state.finished = stop == 1
                with watchdog.during("save"):
                    self._save()
            if stop:
                self._end(STOPS[int(stop) - 1])
                return
            self._step(progress)
            watchdog.beat()
            if self.log is not None and self.state.step == self.first + 1:
                self.log.note(startup_seconds=watchdog.startup_seconds())

    # -- what rank 0 decides -------------------------------------------------------------------------------------------
    def _orders(self) -> list[float]:
        """[progress, elapsed seconds, save now?, stop: 0 or 1 + index in STOPS]; only rank 0's count."""
        elapsed, counted, step = self.elapsed_s, self.counted_s, self.state.step
        if self.log is None:
            return [0.0] * 4
        stop = 0
        if self.budget.over(step, counted):
            stop = 1
        elif self._too_slow(step, counted):
            stop = 4
        elif self.log.cancelled():
            stop = 2
        elif self._interrupted():
            stop = 3
        save = bool(stop) or elapsed - self.saved_at >= self.plan.checkpoint_s
        return [self.budget.progress(step, counted), elapsed, float(save), float(stop)]

    def _too_slow(self, step: int, counted: float) -> bool:
        """Whether the first steps say that this machine takes longer than the plan allows; looked at once a run."""
        if not self.plan.slowest_step_s or self.plan.steps or step <= self.first:
            return False
        if self.probe is None:
            self.probe = (step, counted)
            return False
        steps, seconds = step - self.probe[0], counted - self.probe[1]
        if self.step_s or steps < PROBE_STEPS or seconds < min(PROBE_S, self.budget.seconds / 4):
            return False
        self.step_s = seconds / steps
        return self.step_s > self.plan.slowest_step_s

    def _interrupted(self) -> bool:
        """Whether the driver asked for the end (Ctrl-C, SIGTERM)."""
        now = time.monotonic()
        if now - self.looked_at < 0.2:
            return False
        self.looked_at = now
        return self.store.exists(posixpath.join(self.plan.folder, STOP))

    # -- one step ------------------------------------------------------------------------------------------------------
    def _step(self, progress: float) -> None:
        rate = learning_rate(progress, self.plan.learning_rate)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        batch = self.batches.batch(self.state.step, self.ranks.rank, self.ranks.size)
        with computing_in(self.state.precision):
            share = self.objective.share_of_loss(self.network, batch)
        (share * self.ranks.size).backward()  # DistributedDataParallel divides by the number of workers
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        loss = float(self.ranks.add(share.detach()))
        if not math.isfinite(loss) or not math.isfinite(float(norm)):
            self._diverged()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.tokens += batch.tokens
        self.losses.append(loss)
        if self.log is not None and self.elapsed_s - self.logged_at >= max(LOG_S, self.budget.seconds / 500):
            self._log_step(rate)

    def _diverged(self) -> None:
        saved = last_checkpoint(self.store, self.plan.folder)
        last = (
            f"the last good checkpoint is that of step {saved}" if saved is not None else "there is no checkpoint yet"
        )
        raise DivergedError(
            f"the loss is not a number at step {self.state.step + 1} of {self.plan.stage}: {last}; nothing was "
            f"published. Lower train.learning_rate (now {self.plan.learning_rate:g}) or change train.seed",
            step=self.state.step + 1, checkpoint=saved,
        )  # fmt: skip

    # -- books ---------------------------------------------------------------------------------------------------------
    def _log_step(self, rate: float) -> None:
        elapsed, tokens = self.elapsed_s, self.state.tokens
        speed = (tokens - self.logged_tokens) / max(1e-9, elapsed - self.logged_at)
        self._row(train_loss=sum(self.losses) / len(self.losses), tokens_per_s=round(speed), learning_rate=rate)
        self.logged_at, self.logged_tokens, self.losses = elapsed, tokens, []

    def _row(self, **values: float | None) -> None:
        """Add what was measured at this step to metrics.jsonl and to the run's log."""
        if self.log is None:
            return
        base = {"step": self.state.step, "tokens": self.state.tokens, "seconds": round(self.elapsed_s, 2)}
        done = round(min(1.0, self.budget.progress(self.state.step, self.counted_s)), 4)
        if not self.state.rows or self.state.rows[-1]["step"] != self.state.step:
            self.state.rows.append({**base, "stage": self.plan.stage, "train_loss": None, "held_out_loss": None})
        self.state.rows[-1].update(values)
        self.log.log(self.state.step, tokens=self.state.tokens, seconds=base["seconds"], done=done, **values)

    def _evaluate(self) -> None:
        """What the objective reports of the held-out side, the loss among it."""
        self.model.eval()
        with computing_in(self.state.precision):
            mine = self.objective.evaluate(self.model, self.held_out)
        self.model.train()
        sums = self.ranks.add(torch.tensor(list(mine.values()), dtype=torch.float64)).tolist()
        found = {name: total / count for name, (total, count) in zip(mine, sums, strict=True) if count}
        if found:
            self._row(**found)

    def _save(self) -> None:
        if self.log is not None:
            self.state.elapsed_s, self.state.counted_s = self.elapsed_s, self.counted_s
            path = checkpoint.save(self.store, self.plan.folder, self.model, self.optimizer, self.state)
            log_event("train", "checkpoint_saved", run=self.plan.run_id, step=self.state.step, path=path)
        self.saved_at = self.elapsed_s

    def _end(self, how: Ended) -> None:
        if self.log is None:
            return
        ended = RunOutcome(how, self.state.step, checkpoint=self.state.step, step_s=self.step_s)
        ended.write(self.store, self.plan.folder)
        if how == "finished":
            self.log.finish("finished")
        elif how == "too_slow":
            self.log.finish("failed", f"given up: a step takes {self.step_s:.1f} s on this machine")
        else:
            self.log.finish("cancelled", "" if how == "cancelled" else "interrupted; the same command goes on")

    def _resume(self) -> TrainState:
        """Continue at the newest whole checkpoint, the same on every rank, or start."""
        plan, found = self.plan, None
        if self.ranks.rank == 0:
            found = checkpoint.latest(self.store, plan.folder)
            checkpoint.discard_after(self.store, plan.folder, found.state.step if found else -1)
        (step,) = self.ranks.from_first([found.state.step if found else -1.0])
        if step < 0:
            startup = max(0.0, time.time() - plan.started_at)
            chosen = choose_precision(plan, self.model, self.batches, self.objective) if self.ranks.rank == 0 else 0
            startup, code = self.ranks.from_first([startup, float(chosen)])
            return TrainState(startup_s=startup, precision="bf16" if code else "fp32")
        found = found or checkpoint.load(self.store, checkpoint.path_of(plan.folder, int(step)))
        state = checkpoint.restore(found, self.model, self.optimizer)
        log_event("train", "resumed", run=plan.run_id, step=state.step, rank=self.ranks.rank)
        return state

    def _parameters(self) -> dict[str, Any]:
        plan = self.plan
        kept = ("batch_tokens", "learning_rate", "seed", "steps", "budget_s", "precision")
        return {
            **{name: getattr(plan, name) for name in kept}, **plan.model.to_dict(), "workers": self.ranks.size,
            "parameters": plan.model.parameters, "resumed_at_step": self.state.step,
            "threads": torch.get_num_threads(),
        }  # fmt: skip


def load_initial(plan: RunPlan, store: Store, model: nn.Module) -> None:
    """Start from published weights."""
    state = {
        name: tensor for part in read_weights(store, plan.initial, plan.initial_files) for name, tensor in part.items()
    }
    checkpoint.load_weights(model, plan.model.from_hugging_face(state))


def be_nice() -> None:
    """Lower the priority of every thread of this process (Linux has one per thread; new threads inherit it)."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, int(thread), NICENESS)
