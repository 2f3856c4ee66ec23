"""How the training workers of one run become a process group, and what Ray Train's controller does when they fail.

Gloo on CPUs, gloo and NCCL together where workers have GPUs (numbers that a rank decides travel by gloo, gradients by
NCCL). On one machine they find each other through a file: Ray's own TorchConfig starts torch's TCP store, which listens
on every interface and asks nobody for a password, and gloo's own sockets are bound to the loopback device. Besides,
this module does not import torch, so Ray Train's controller need not either (seconds of every start).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import posixpath
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import UserCallback
from ray.train.backend import Backend, BackendConfig

from cluster.core.errors import PlinthError, TrainingError
from cluster.core.storage import MANIFEST, Store
from cluster.core.telemetry import log_event
from cluster.ray_errors import cause_of
from train_jobs.trainer import termination
from train_jobs.trainer.outcome import HUNG, MAX_FAILURES, ORDERS, RUNNING, Failures, cause_of_death, short_of_memory

LOOPBACK_DEVICE = "lo"
STUCK = "its watchdog ended it, because it took no step any more"
# Longer than any phase that the step watchdog allows (``watchdog.LONGEST_PHASE_S``): a hang is its business, because it
# says where; a peer that died is noticed by its closed connection, or by Ray.
TIMEOUT_S = 2400
# What NCCL is told unless the nodes' environment says otherwise: an operation that fails ends its process (in place of
# waiting for ever), and warnings go to the worker's log.
NCCL = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "NCCL_DEBUG": "WARN"}
# When this process got to know of the group: in Ray Train's controller as soon as it has started.
_BORN = time.time()
# Seconds of this worker's start by part, and when the group's start began (as far as the controller knows).
_started: dict[str, float] = {}


@dataclass
class GroupConfig(BackendConfig):
    """Backend configuration for a trainer of Ray Train.

    Attributes:
        backend: what torch calls it.
        folder: where the rendezvous file goes; empty where workers may be on several machines (torch's TCP store then).
        timeout_s: how long a collective operation may take before its worker gives up.
        asked_at: when the driver asked for the group, in seconds since the epoch.
    """

    backend: str = "gloo"
    folder: str = ""
    timeout_s: int = TIMEOUT_S
    asked_at: float = 0.0

    @property
    def backend_cls(self) -> type[GroupBackend]:
        """Tells Ray Train which class sets up workers that are configured like this."""
        return GroupBackend


def backend_for(gpus: float) -> str:
    """What torch is to communicate with, by the number of GPUs of each worker."""
    return "cpu:gloo,cuda:nccl" if gpus else "gloo"


class GroupBackend(Backend):
    """Makes the workers one process group before the training function starts. Lives in Ray Train's controller."""

    # NCCL reaches the other GPUs of a machine directly only where a process sees them.
    share_cuda_visible_devices = True

    def __init__(self) -> None:
        self._failed_starts = 0

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Join all workers of the group in one process group; a single worker needs none.

        Raises:
            TypeError: the configuration is of another backend.
            TrainingError: workers died before they could join, several times in a row.
        """
        if not isinstance(backend_config, GroupConfig):
            raise TypeError(f"GroupBackend wants a GroupConfig, not {type(backend_config).__name__}")
        size, where = len(worker_group), ""
        if size > 1 and backend_config.folder:
            # A new file for every attempt: torch does not take one that a killed group left behind.
            where = f"file://{backend_config.folder}/rendezvous-{secrets.token_hex(4)}"
        elif size > 1:
            where = f"tcp://{worker_group.execute_single(0, _address)}"
        times = _Start(_ended.pop("at", 0.0) or backend_config.asked_at, _BORN, time.time())
        try:
            ray.get([
                worker_group.execute_single_async(rank, _join, backend_config, where, rank, size, times)
                for rank in range(size)
            ])  # fmt: skip
        except ray.exceptions.RayActorError as error:
            # Ray Train starts a group that failed to start again for ever.
            self._failed_starts += 1
            if self._failed_starts > MAX_FAILURES:
                raise TrainingError(gave_up(self._failed_starts, cause_of_death(str(error)))) from None
            raise
        self._failed_starts = 0

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Have the workers leave their process group, for at most 5 s; workers that died are passed over."""
        del backend_config
        _ended.setdefault("at", time.time())  # one that is to grow or shrink has not failed
        if len(worker_group) > 1:
            with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                ray.get(worker_group.execute_async(_leave), timeout=5)


# In the controller: when the group that is replaced now was found to have failed, or was ended to have another size.
_ended: dict[str, float] = {}


class FailureWatch(UserCallback):
    """Notes why workers failed, and ends the run where trying again does not help. Called in Ray Train's controller.

    Args:
        store: URI of the store; folder: the group's folder, with its orders.
        alone: whether all workers are on this machine, whose kernel then knows whom it killed.
    """

    def __init__(self, store: str, folder: str, alone: bool) -> None:
        self.store, self.folder, self.alone = store, folder, alone
        self.failures = Failures()
        self.oom_kills = oom_kills()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called with what each failed worker raised, or what Ray says of its death.

        Raises:
            PlinthError: a worker's own, which trying again would only raise again.
            TrainingError: the group failed too often.
        """
        del run_context
        store = Store(self.store)
        _ended["at"] = time.time()
        for error in worker_exceptions.values():
            own = cause_of(error)
            if isinstance(own, PlinthError):
                raise own
        before, self.oom_kills = self.oom_kills, oom_kills()
        kills = self.oom_kills - before if self.alone else 0
        causes = {
            rank: STUCK if self._took_away(store, f"{HUNG}{rank}") else _cause(error, kills)
            for rank, error in worker_exceptions.items()
        }
        run_id, reached = self._reached(store)
        self._took_away(store, RUNNING)
        log_event("train", "workers_failed", run=run_id, reached=reached, causes=causes)
        if not self.failures.add(time.monotonic(), (run_id, reached)):
            raise TrainingError(gave_up(len(self.failures.seen), next(iter(causes.values()))))

    def _took_away(self, store: Store, name: str) -> bool:
        """Remove a file of the group's folder; whether it was there."""
        path = posixpath.join(self.folder, name)
        if found := store.exists(path):
            store.fs.rm(path)
        return found

    def _reached(self, store: Store) -> tuple[str, str]:
        """The run at work and its newest checkpoint."""
        path = posixpath.join(self.folder, ORDERS)
        plan = (store.read_json(path) if store.exists(path) else {}).get("plan") or {}
        folder = plan.get("folder", "")
        found = store.fs.glob(posixpath.join(folder, "checkpoints", "*", MANIFEST)) if folder else []
        return plan.get("run_id", ""), max((one.split("/")[-2] for one in found), default="")


def gave_up(times: int, cause: str) -> str:
    """What a person reads where a group failed too often."""
    advice = (
        "lower train.workers or train.batch_tokens, or free some memory"
        if short_of_memory(cause)
        else "`plinth logs train` and the workers' logs of Ray say more"
    )
    return (
        f"the training workers died {times} times without getting on (at last: {cause}): {advice}. The same command "
        "goes on from the last checkpoint"
    )


def _cause(error: Exception, kills: int) -> str:
    """Why one worker failed: what it raised itself, or what befell its process."""
    if isinstance(error, ray.exceptions.RayActorError) or hasattr(error, "health_check_failure"):
        return cause_of_death(str(error), kills)
    return f"{type(error).__name__}: {str(error).strip()[:300]}"


def oom_kills() -> int:
    """How many processes this machine's kernel has killed for want of memory since it started; -1: it does not say."""
    try:
        rows = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except (OSError, ValueError):
        return -1
    return int(rows.get("oom_kill", -1))


@dataclass(frozen=True)
class _Start:
    """When a start began, when the controller was there, and when its workers were: seconds since the epoch."""

    began: float
    controller: float
    workers: float


def startup_seconds() -> dict[str, float]:
    """Seconds of this worker's start by part, so far."""
    return {part: round(seconds, 2) for part, seconds in _started.items()}


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Count the block's seconds as a part of this worker's start."""
    began = time.monotonic()
    try:
        yield
    finally:
        _started[part] = _started.get(part, 0.0) + time.monotonic() - began


def _join(config: GroupConfig, where: str, rank: int, size: int, start: _Start) -> None:
    """In a worker: note when it started, import torch, and join the others."""
    controller = max(start.began, start.controller)  # of a group that is started again it is there already
    born = min(max(controller, _process_start()), start.workers)
    _started.clear()
    _started.update({
        "controller": controller - start.began, "place and start processes": born - controller,
        "import ray.train": start.workers - born,
    })  # fmt: skip
    termination.watch()  # this is the worker's main thread; the loop runs in another
    if config.backend != "gloo":
        for name, value in NCCL.items():
            os.environ.setdefault(name, value)
    if size == 1:
        return
    with timed("import torch"):
        import torch.distributed

    if where.startswith("file:"):
        os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK_DEVICE
    if config.backend != "gloo":
        torch.cuda.set_device(ray.train.get_context().get_local_rank() % torch.cuda.device_count())
    with timed("join the group"):
        torch.distributed.init_process_group(
            config.backend, init_method=where, rank=rank, world_size=size,
            timeout=datetime.timedelta(seconds=config.timeout_s),
        )  # fmt: skip


def _process_start() -> float:
    """When this process started, in seconds since the epoch (the kernel counts in hundredths after its own start)."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def _address() -> str:
    """An address of this worker's node with a port that is free now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
