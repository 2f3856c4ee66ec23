"""One run on Ray Train: ``loop.run`` in a TorchTrainer, watched from here.

The workers write checkpoints into the run's folder themselves instead of reporting them to Ray Train, whose controller
registers them later than they are written and would resume from an older one. So a killed worker (Ray Train starts the
group again) and a killed driver (the next call does) resume in the same way: from the newest whole checkpoint.
"""

from __future__ import annotations

import logging
import os
import posixpath
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from actors.runs import read_metrics
from cluster.core.errors import PlinthError, TrainingError
from cluster.core.progress import Progress
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from train_jobs import loop
from train_jobs.loop import OUTCOME, STOP, Outcome
from train_jobs.plan import Plan

MAX_FAILURES = 3
STOP_GRACE_S = 30.0
COLLECTIVE_TIMEOUT_S = 120
# What Ray Train reads from the driver's environment. Its controller looks at the workers every two seconds otherwise;
# its metrics have no reader here, the run's log has them.
_ENVIRONMENT = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_METRICS_ENABLED": "0"}


def fit(plan: Plan, workers: int, store: Store, progress: Progress) -> int:
    """Carry out a plan with ``workers`` workers (0: two where there are two CPUs, else one); returns how many.

    Raises:
        TrainingError: the run failed, or was cancelled.
        PlinthError: as a worker raised it (full disk, damaged data).
        KeyboardInterrupt: after the workers wrote a checkpoint.
    """
    workers = workers or (2 if ray.cluster_resources().get("CPU", 1) >= 2 else 1)
    for name in (OUTCOME, STOP):
        path = posixpath.join(plan.folder, name)
        if store.exists(path):
            store.fs.rm(path)
    progress.stage("start workers")
    attempt = _Attempt(_trainer(plan, workers, store))
    try:
        watch = _Watch(plan, store, progress)
        while attempt.running(0.2 if store.local else 2.0):
            watch.look()
    except KeyboardInterrupt:
        store.write(posixpath.join(plan.folder, STOP), b"{}")
        log_event("train", "interrupted", run=plan.run_id)
        attempt.running(STOP_GRACE_S)
        raise
    _raise_what_went_wrong(plan, Outcome.read(store, plan.folder), attempt.error)
    return workers


def _trainer(plan: Plan, workers: int, store: Store) -> TorchTrainer:
    storage = (
        store.path(plan.folder, "ray") if store.local else f"{store.uri}/{os.path.relpath(plan.folder, store.root)}"
    )
    return TorchTrainer(
        _work,
        train_loop_config={"plan": plan.to_dict()},
        torch_config=TorchConfig(backend="gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(
            name=plan.run_id, storage_path=storage, failure_config=FailureConfig(max_failures=MAX_FAILURES)
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """What every worker runs."""
    context = ray.train.get_context()
    group = loop.Group(context.get_world_rank(), context.get_world_size(), context.get_local_world_size())
    loop.run(Plan.from_dict(config["plan"]), group)


class _Attempt:
    """``TorchTrainer.fit`` in a thread of its own, so that this one can watch, and take a Ctrl-C."""

    def __init__(self, trainer: TorchTrainer) -> None:
        self.error: TrainingFailedError | None = None
        self._trainer = trainer
        self._thread = threading.Thread(target=self._fit, name="ray-train-fit", daemon=True)
        self._thread.start()

    def running(self, wait_s: float) -> bool:
        """Wait up to ``wait_s`` for the end; whether it still runs."""
        self._thread.join(wait_s)
        return self._thread.is_alive()

    def _fit(self) -> None:
        for name in ("ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)  # the driver's terminal has a progress bar of its own
        try:
            with _environment():
                self._trainer.fit()
        except TrainingFailedError as error:
            self.error = error


@contextmanager
def _environment() -> Iterator[None]:
    earlier = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if earlier[name] is None})
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                os.environ.pop(name, None)


class _Watch:
    """Turns the run's log into progress."""

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        self.plan, self.store, self.progress = plan, store, progress
        self.done, self.began = 0, False

    def look(self) -> None:
        rows = read_metrics(self.store, self.plan.run_id)
        if not rows:
            return
        row, total = rows[-1], self.plan.steps or round(self.plan.budget_s)
        if not self.began:
            self.progress.stage(self.plan.stage, total, "steps" if self.plan.steps else "seconds")
            self.began = True
        spent = time.time() - self.plan.started_at
        done = min(total, int(row["step"]) if self.plan.steps else round(spent))
        if done > self.done:
            self.progress.advance(done - self.done)
            self.done = done
        seen = {"step": row["step"], "tokens/s": row.get("tokens_per_s"), "loss": row.get("train_loss")}
        self.progress.counts(**{name: round(value, 2) for name, value in seen.items() if value is not None})


def _raise_what_went_wrong(plan: Plan, outcome: Outcome | None, error: TrainingFailedError | None) -> None:
    """Raise unless the run finished."""
    if outcome is not None and outcome.state == "finished":
        return
    if outcome is not None and outcome.state == "failed":
        log_event("train", "run_failed", run=plan.run_id, step=outcome.step, reason=outcome.message)
        raise TrainingError(outcome.message, step=outcome.step, checkpoint=outcome.checkpoint, run=plan.run_id)
    if outcome is not None:
        raise TrainingError(
            f"the run {plan.run_id} was {outcome.state} at step {outcome.step}; a checkpoint was kept, the same "
            "command goes on from there", step=outcome.step, checkpoint=outcome.checkpoint, run=plan.run_id,
        )  # fmt: skip
    cause = _own_error(error)
    if cause is not None:
        raise cause from None
    log_event("train", "run_failed", run=plan.run_id, reason=str(error))
    raise TrainingError(
        f"the training workers of {plan.run_id} died {MAX_FAILURES + 1} times ({_first_line(error)}): most often the "
        "machine is short of memory; lower train.workers or train.batch_tokens. The same command goes on from the last "
        "checkpoint", run=plan.run_id,
    )  # fmt: skip


def _own_error(error: BaseException | None) -> PlinthError | None:
    """The error a worker raised on purpose, from inside Ray Train's wrapping."""
    if not isinstance(error, WorkerGroupError):
        return None
    for failure in error.worker_failures.values():
        cause: BaseException | None = failure
        while cause is not None and not isinstance(cause, PlinthError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            return cause
    return None


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0][:200] if error is not None and str(error).strip() else "no reason given"
