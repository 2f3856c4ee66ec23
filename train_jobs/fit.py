"""Training workers on Ray Train: ``loop.run`` in a trainer of Ray Train, one plan after the other, watched from here.

Starting a group of workers costs 10 to 20 seconds (controller, processes, torch), so one group can serve several
stages: it waits for the next plan in a file. The workers write checkpoints into a run's folder themselves instead of
reporting them to Ray Train, whose controller registers them later than they are written and would resume from an older
one. So a killed worker (Ray Train starts the group again), one that hangs (its watchdog ends it), a group that grows or
shrinks and a killed driver (the next call starts a group) resume in the same way: from the newest whole checkpoint.
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
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import ray

from actors import spawn
from actors.registry.runs import FOLDER, NewestPoint, read_metrics
from cluster.core.config import available_cpus
from cluster.core.errors import EnvironmentFaultError, PlinthError, TooSlowError, TrainingError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from cluster.ray_errors import plain
from train_jobs.distributed.resources import Wanted, node_types, refuse_impossible, wanted, what_is_awaited
from train_jobs.trainer.outcome import HUNG, ORDERS, OUTCOME, PHASE, RUNNING, STOP, RunOutcome
from train_jobs.trainer.plan import RunPlan

STOP_GRACE_S = 30.0
PHASES = {"load data": "load the data", "build model": "build the model", "evaluate": "look at the held-out side first"}
LOOK_FOR_NODES_S = 2.0
# Where `ray up` puts the cluster's file on its head, which is where drivers of jobs run.
CLUSTER_FILE = "~/ray_bootstrap_config.yaml"
HEAD = "node:__internal_head__"  # what Ray calls the head among a node's resources
# What Ray Train reads from the driver's environment. Its controller looks at the workers every two seconds otherwise;
# its metrics have no reader here, the run's log has them. A worker that does not answer at all (stopped, or with
# Python's lock held) is replaced after three minutes, not ten.
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "180",
}  # fmt: skip
# The only machine is not taken away from under its workers: no watcher process for that.
_ENVIRONMENT_ALONE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
# A group that may shrink does not wait a minute for a node that has just gone.
_ENVIRONMENT_ELASTIC = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}


class Workers:
    """A group of training workers for the length of a ``with`` block; needs a Ray connection.

    Entering returns at once, the group starts meanwhile. ``section.workers`` says how many (0: one for each GPU where
    workers have GPUs, else two where the cluster has two CPUs, else one), ``section.workers_min`` how few may go on
    where nodes come and go, ``section.worker_cpus`` and ``section.gpus`` what each reserves.

    Raises:
        UsageError: the settings contradict each other.
        EnvironmentFaultError: the cluster can never hold such a group.
    """

    def __init__(self, section: TrainSection, store: Store) -> None:
        self.store, self.section = store, section
        self.group: Wanted = wanted(section, ray.cluster_resources())
        _refuse_impossible(self.group)
        # Workers that reserve something may end up on nodes that do not exist yet; others stay on the only one.
        self.alone = len(_nodes()) == 1 and not (self.group.cpus or self.group.gpus)
        self.size = self.group.most
        self.folder = store.staging(f"workers-{secrets.token_hex(6)}")
        self._number = 0
        # In a thread, so that the caller can do other things, watch, and take a Ctrl-C.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray-train-fit")
        self._fitting: Future[None] | None = None
        self._asked_at = self._looked_at = 0.0
        self._awaited = ""
        self._books_kept = False

    def __enter__(self) -> Workers:
        self._order(None)
        self._asked_at = time.time()
        self._fitting = self._thread.submit(self._fit)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._order(None, end=True)
        except EnvironmentFaultError:  # the disk is full: without orders the workers end too
            self.store.fs.rm(posixpath.join(self.folder, ORDERS))
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
        for name in (OUTCOME, STOP, PHASE):
            path = posixpath.join(plan.folder, name)
            if self.store.exists(path):
                self.store.fs.rm(path)
        progress.stage("start workers")
        self._order(plan)
        watch = _Watch(plan, self.store, progress)
        try:
            with _terminated_as_interrupted():
                while not self._over(0.1 if self.store.local else 2.0) and not RunOutcome.read(self.store, plan.folder):
                    self._look_for_nodes(progress)
                    watch.look()
                    if watch.began:
                        self._keep_books()
        except KeyboardInterrupt:
            self._interrupt(plan)
            raise
        self._order(None)
        self._keep_books()
        outcome = RunOutcome.read(self.store, plan.folder)
        error = self._fitting.exception() if self._fitting is not None and self._fitting.done() else None
        _raise_what_went_wrong(plan, outcome, error)

    def _over(self, wait_s: float) -> bool:
        """Wait up to ``wait_s`` for the workers' end; whether it came."""
        if self._fitting is None:
            return True
        return bool(wait([self._fitting], timeout=wait_s).done)

    def _look_for_nodes(self, progress: Progress) -> None:
        """Say for what a group waits that has not started, or starts again."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_FOR_NODES_S:
            return
        self._looked_at = now
        awaited = ""
        if not self.store.exists(posixpath.join(self.folder, RUNNING)) and not _placed(self.group):
            awaited = what_is_awaited(self.group, _free(self.group))
        if awaited != self._awaited:
            progress.stage(awaited or "start workers")
            log_event("train", "waits_for_nodes", what=awaited or "nothing")
            self._awaited = awaited

    def _keep_books(self) -> None:
        """Have the registry's actor run: it copies what runs write into mlflow's schema. Not before steps are taken,
        since it imports mlflow meanwhile."""
        if not self._books_kept:
            self._books_kept = True
            try:
                spawn.registry(self.store, Home.from_env())
            except ray.exceptions.RayError as error:  # the run has its own books; the next one tries again
                log_event("train", "books_not_mirrored", error=type(error).__name__)

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
        # Seconds, in which the caller does other things. TorchTrainer is this trainer with torch imported, which takes
        # seconds more and which neither the driver nor the controller needs.
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

        from train_jobs.distributed.group import FailureWatch, GroupConfig, backend_for

        for name in ("ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)  # the terminal has a progress bar of its own
        group, section = self.group, self.section
        below = self.folder if self.store.local else f"{self.store.uri}/{os.path.relpath(self.folder, self.store.root)}"
        backend = GroupConfig(
            backend=backend_for(group.gpus), folder=self.folder if self.alone and self.store.local else "",
            asked_at=self._asked_at,
        )  # fmt: skip
        scaling: dict[str, Any] = {  # mypy sees the arguments of Ray Train's first version
            "num_workers": (group.least, group.most) if group.elastic else group.most,
            "elastic_resize_monitor_interval_s": section.resize_s, "label_selector": group.labels or None,
        }  # fmt: skip
        trainer = DataParallelTrainer(
            _work,
            train_loop_config={
                "store": self.store.uri, "folder": self.folder, "cpus": group.cpus,
                "hang_factor": section.hang_factor, "hang_s": section.hang_s,
            },
            backend_config=backend,
            scaling_config=ScalingConfig(
                use_gpu=group.gpus > 0, resources_per_worker=group.each, placement_strategy="PACK", **scaling
            ),
            run_config=RunConfig(
                name="ray", storage_path=below,
                # FailureWatch counts: a run of weeks may see many failures, one that does not get on few.
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[FailureWatch(self.store.uri, self.folder, self.alone)],  # type: ignore[list-item]
            ),
        )  # fmt: skip
        environment = {**_ENVIRONMENT, **(_ENVIRONMENT_ALONE if self.alone else {})}
        with _environment({**environment, **(_ENVIRONMENT_ELASTIC if group.elastic else {})}):
            trainer.fit()


def _work(config: dict[str, Any]) -> None:
    """What every worker runs: one plan after the other until there are no more."""
    import ray.train

    from train_jobs.distributed import group

    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    with group.timed("import torch"):  # done already where there are others to join
        from train_jobs.distributed.ranks import Ranks
        from train_jobs.trainer import loop, watchdog
    threads = int(config["cpus"]) or max(1, available_cpus() // context.get_local_world_size())
    ranks = Ranks(rank, size, threads, context.get_local_rank())
    store, done = Store(config["store"]), 0
    if rank == 0:
        store.write(posixpath.join(config["folder"], RUNNING), json.dumps({"workers": size}).encode())
    log_event(
        "train", "worker_ready", rank=rank, workers=size, device=str(ranks.device), seconds=group.startup_seconds()
    )
    while True:
        path = posixpath.join(config["folder"], ORDERS)
        orders: dict[str, Any] = store.read_json(path) if store.exists(path) else {"end": True}
        if orders["end"]:
            return
        if orders["plan"] is None or orders["number"] == done:
            time.sleep(0.05 if store.local else 1.0)
            continue
        plan = RunPlan.from_dict(orders["plan"])

        def keep(name: str, body: bytes, run_id: str = plan.run_id) -> None:
            store.write(posixpath.join(config["folder"], f"{HUNG}{rank}"), b"")
            store.write(store.path(FOLDER, run_id, name), body)

        def tell(phase: str, folder: str = plan.folder) -> None:
            if rank == 0:
                with suppress(PlinthError):  # it only tells people: a full disk ends the run where that matters
                    store.write(posixpath.join(folder, PHASE), phase.encode())

        before = group.startup_seconds() if not done else {}
        with watchdog.watching(config["hang_factor"], config["hang_s"], rank, plan.run_id, keep, before, tell):
            loop.run(plan, ranks)
        done = orders["number"]


def _nodes(group: Wanted | None = None) -> dict[str, dict[str, float]]:
    """What each node has in all, by its id: of the nodes that run, and that a group's workers may use."""
    alive = [node for node in ray.nodes() if node["Alive"] and (not group or group.may_use(node["Labels"]))]
    return {node["NodeID"]: node["Resources"] for node in alive}


def _free(group: Wanted) -> list[dict[str, float]]:
    """What is unused on each node that a group's workers may use."""
    from ray._private.state import available_resources_per_node

    usable = _nodes(group)
    return [free for node, free in available_resources_per_node().items() if node in usable]


def _placed(group: Wanted) -> bool:
    """Whether some group like this one has its place already, and only starts its processes."""
    tables = ray.util.placement_group_table().values()
    return any(
        table["state"] == "CREATED" and all(bundle == group.each for bundle in table["bundles"].values())
        for table in tables
    )


def _refuse_impossible(group: Wanted) -> None:
    """Refuse what no node can hold, where it is known what nodes there may be: on the head of a cluster."""
    if HEAD not in _nodes().get(ray.get_runtime_context().get_node_id(), {}):
        return
    if "KUBERAY_GEN_RAY_START_CMD" in os.environ:  # an operator outside of Ray adds nodes, by rules of its own
        return
    types = []
    if (path := Path(CLUSTER_FILE).expanduser()).exists():
        import yaml

        types = node_types(yaml.safe_load(path.read_text()))
    refuse_impossible(group, _nodes(group).values(), types)


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
    """Turns the run's log into progress, before its first line what the workers say that they are busy with."""

    def __init__(self, plan: RunPlan, store: Store, progress: Progress) -> None:
        self.plan, self.store, self.progress = plan, store, progress
        self.phase = ""
        self.done, self.began = 0, False
        self.newest = NewestPoint(store, plan.run_id)

    def look(self) -> None:
        row, total = self.newest.look(), self.plan.steps or 100
        if row is None or datetime.fromisoformat(row["at"]).timestamp() < self.plan.started_at:
            self._look_at_phase()  # nothing yet, or only what an earlier attempt left
            return
        if not self.began:
            self.progress.stage(self.plan.stage, total, "steps" if self.plan.steps else "%")
            self.began = True
        done = min(total, int(row["step"] if self.plan.steps else 100 * row.get("done", 0.0)))
        if done > self.done:
            self.progress.advance(done - self.done)
            self.done = done
        seen = {"step": row["step"], "tokens/s": row.get("tokens_per_s"), "loss": row.get("train_loss")}
        self.progress.counts(**{name: round(value, 2) for name, value in seen.items() if value is not None})

    def _look_at_phase(self) -> None:
        path = posixpath.join(self.plan.folder, PHASE)
        phase = self.store.read(path).decode() if self.store.exists(path) else ""
        if phase and phase != self.phase:
            self.progress.stage(PHASES.get(phase, phase))
            self.phase = phase


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
    error = getattr(error, "controller_failure", error)  # what FailureWatch raised, in Ray Train's wrapping
    cause = plain(error, "training") if error is not None else None
    if isinstance(cause, PlinthError):
        log_event("train", "run_failed", run=plan.run_id, reason=cause.message)
        raise cause from None
    if cause is not None:
        raise cause  # not the workers' doing: a bug
    raise TrainingError(f"the training workers of {plan.run_id} ended and left no outcome", run=plan.run_id)
