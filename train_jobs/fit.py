"""Training workers on Ray Train: ``loop.run`` in a TorchTrainer, one plan after the other, watched from here.

Starting a group of workers costs 10 to 20 seconds (controller, processes, torch), so one group can serve several
stages: it waits for the next plan in a file. The workers write checkpoints into a run's folder themselves instead of
reporting them to Ray Train, whose controller registers them later than they are written and would resume from an older
one. So a killed worker (Ray Train starts the group again) and a killed driver (the next call does) resume in the same
way: from the newest whole checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any

import ray

from actors.registry.runs import read_metrics
from cluster.core.config import available_cpus
from cluster.core.errors import TooSlowError, TrainingError
from cluster.core.progress import Progress
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from cluster.ray_errors import own_error
from train_jobs.trainer.outcome import OUTCOME, STOP, RunOutcome
from train_jobs.trainer.plan import RunPlan

MAX_FAILURES = 3
STOP_GRACE_S = 30.0
ORDERS = "orders.json"
# A placement group wants some CPU of each worker; this much takes none from anybody.
NO_CPU = 0.001
# What Ray Train reads from the driver's environment. Its controller looks at the workers every two seconds otherwise;
# its metrics have no reader here, the run's log has them.
_ENVIRONMENT = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_METRICS_ENABLED": "0"}
# The only machine is not taken away from under its workers: no watcher process for that.
_ENVIRONMENT_ALONE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


class Workers:
    """A group of training workers for the length of a ``with`` block; needs a Ray connection.

    Entering returns at once, the group starts meanwhile. ``section.workers`` says how many (0: two where the cluster
    has two CPUs, else one), ``section.worker_cpus`` what each reserves.
    """

    def __init__(self, section: TrainSection, store: Store) -> None:
        self.store = store
        cpus = ray.cluster_resources().get("CPU", 0)
        # Workers that reserve CPUs may end up on nodes that do not exist yet; those that do not stay on the only one.
        self.alone = sum(node["Alive"] for node in ray.nodes()) == 1 and cpus > 0 and not section.worker_cpus
        self.size = section.workers or (2 if cpus >= 2 else 1)
        self.cpus = section.worker_cpus or NO_CPU
        self.folder = store.staging(f"workers-{secrets.token_hex(6)}")
        self._number = 0
        # In a thread, so that the caller can do other things, watch, and take a Ctrl-C.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray-train-fit")
        self._fitting: Future[None] | None = None

    def __enter__(self) -> Workers:
        self._order(None)
        self._fitting = self._thread.submit(self._fit)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._order(None, end=True)
        self._over(STOP_GRACE_S if kind is None else 5.0)
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self.store.exists(self.folder):
            self.store.fs.rm(self.folder, recursive=True)

    def carry_out(self, plan: RunPlan, progress: Progress) -> None:
        """Have the workers carry out one plan and wait for its end.

        Raises:
            TrainingError: the run failed, or was cancelled.
            TooSlowError: its steps take longer than the plan allows.
            PlinthError: as a worker raised it (full disk, damaged data).
            KeyboardInterrupt: after the workers wrote a checkpoint.
        """
        for name in (OUTCOME, STOP):
            path = posixpath.join(plan.folder, name)
            if self.store.exists(path):
                self.store.fs.rm(path)
        progress.stage("start workers")
        self._order(plan)
        watch = _Watch(plan, self.store, progress)
        try:
            with _terminated_as_interrupted():
                while not self._over(0.1 if self.store.local else 2.0) and not RunOutcome.read(self.store, plan.folder):
                    watch.look()
        except KeyboardInterrupt:
            self._interrupt(plan)
            raise
        self._order(None)
        outcome = RunOutcome.read(self.store, plan.folder)
        error = self._fitting.exception() if self._fitting is not None and self._fitting.done() else None
        _raise_what_went_wrong(plan, outcome, error)

    def _over(self, wait_s: float) -> bool:
        """Wait up to ``wait_s`` for the workers' end; whether it came."""
        if self._fitting is None:
            return True
        return bool(wait([self._fitting], timeout=wait_s).done)

    def _interrupt(self, plan: RunPlan) -> None:
        """Have a checkpoint written, if there is anybody to write it."""
        log_event("train", "interrupted", run=plan.run_id)
        self.store.write(posixpath.join(plan.folder, STOP), b"{}")
        deadline = time.monotonic() + STOP_GRACE_S
        started = bool(read_metrics(self.store, plan.run_id))
        while started and time.monotonic() < deadline and not RunOutcome.read(self.store, plan.folder):
            if self._over(0.1):
                return

    def _order(self, plan: RunPlan | None, end: bool = False) -> None:
        """Tell the workers what to do next: a plan, nothing for now, or to end."""
        self._number += 1
        body = {"number": self._number, "plan": plan.to_dict() if plan else None, "end": end}
        self.store.write(posixpath.join(self.folder, ORDERS), json.dumps(body).encode())

    def _fit(self) -> None:
        # Imports torch: seconds, in which the caller does other things.
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from train_jobs.distributed.gloo import GlooConfig

        for name in ("ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)  # the terminal has a progress bar of its own
        below = self.folder if self.store.local else f"{self.store.uri}/{os.path.relpath(self.folder, self.store.root)}"
        trainer = TorchTrainer(
            _work,
            train_loop_config={"store": self.store.uri, "folder": self.folder, "cpus": self.cpus},
            torch_config=GlooConfig(folder=self.folder if self.alone and self.store.local else ""),  # type: ignore[arg-type]
            scaling_config=ScalingConfig(num_workers=self.size, resources_per_worker={"CPU": self.cpus}),
            run_config=RunConfig(
                name="ray", storage_path=below, failure_config=FailureConfig(max_failures=MAX_FAILURES)
            ),
        )
        with _environment({**_ENVIRONMENT, **(_ENVIRONMENT_ALONE if self.alone else {})}):
            trainer.fit()


def _work(config: dict[str, Any]) -> None:
    """What every worker runs: one plan after the other until there are no more."""
    import ray.train

    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer import loop

    context = ray.train.get_context()
    threads = int(config["cpus"]) or max(1, available_cpus() // context.get_local_world_size())
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), threads)
    store, done = Store(config["store"]), 0
    while True:
        path = posixpath.join(config["folder"], ORDERS)
        orders: dict[str, Any] = store.read_json(path) if store.exists(path) else {"end": True}
        if orders["end"]:
            return
        if orders["plan"] is None or orders["number"] == done:
            time.sleep(0.05 if store.local else 1.0)
            continue
        loop.run(RunPlan.from_dict(orders["plan"]), ranks)
        done = orders["number"]


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in this block (Ray's own handler, set by ray.init, would exit at once)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


class _Watch:
    """Turns the run's log into progress."""

    def __init__(self, plan: RunPlan, store: Store, progress: Progress) -> None:
        self.plan, self.store, self.progress = plan, store, progress
        self.done, self.began = 0, False

    def look(self) -> None:
        rows = read_metrics(self.store, self.plan.run_id)
        if not rows or datetime.fromisoformat(rows[-1]["at"]).timestamp() < self.plan.started_at:
            return  # nothing yet, or only what an earlier attempt left
        row, total = rows[-1], self.plan.steps or 100
        if not self.began:
            self.progress.stage(self.plan.stage, total, "steps" if self.plan.steps else "%")
            self.began = True
        done = min(total, int(row["step"] if self.plan.steps else 100 * row.get("done", 0.0)))
        if done > self.done:
            self.progress.advance(done - self.done)
            self.done = done
        seen = {"step": row["step"], "tokens/s": row.get("tokens_per_s"), "loss": row.get("train_loss")}
        self.progress.counts(**{name: round(value, 2) for name, value in seen.items() if value is not None})


def _raise_what_went_wrong(plan: RunPlan, outcome: RunOutcome | None, error: BaseException | None) -> None:
    """Raise unless the run finished."""
    if outcome is not None and outcome.state == "finished":
        return
    if outcome is not None and outcome.state == "failed":
        log_event("train", "run_failed", run=plan.run_id, step=outcome.step, reason=outcome.message)
        raise outcome.as_error(plan.run_id)
    if outcome is not None and outcome.state == "too_slow":
        raise TooSlowError(
            f"a training step takes {outcome.step_s:.1f} s on this machine and may take {plan.slowest_step_s:.2f} s: "
            "give it more minutes, or lower train.min_steps", step_s=outcome.step_s,
        )  # fmt: skip
    if outcome is not None:
        raise TrainingError(
            f"the run {plan.run_id} was {outcome.state} at step {outcome.step}; a checkpoint was kept, the same "
            "command goes on from there", step=outcome.step, checkpoint=outcome.checkpoint, run=plan.run_id,
        )  # fmt: skip
    cause = own_error(error, "training")
    if cause is not None:
        raise cause from None
    if error is not None and not hasattr(error, "worker_failures"):
        raise error  # not the workers' doing: the cluster went away, or a bug
    log_event("train", "run_failed", run=plan.run_id, reason=str(error))
    raise TrainingError(
        f"the training workers of {plan.run_id} died {MAX_FAILURES + 1} times ({_first_line(error)}): most often the "
        "machine is short of memory; lower train.workers or train.batch_tokens. The same command goes on from the last "
        "checkpoint", run=plan.run_id,
    )  # fmt: skip


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0][:200] if error is not None and str(error).strip() else "no reason given"
