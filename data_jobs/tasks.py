"""How jobs share the CPUs: a Ray task per piece of work, a few per CPU in flight; what a pool of actors reserves; what
a job waits for while all are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from cluster.core.progress import Progress
from cluster.ray_errors import plain_errors

# Most that an actor of a pool reserves: it gets a core, and the tenths left over make room for something beside it.
WORKER_CPUS = 0.9
# Pieces per CPU that Ray has at a time: enough that no worker waits, few enough that little is held in memory.
IN_FLIGHT = 2
LOOK_S = 1.0  # how often is looked what a job waits for


def spread(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], doing: str = "running a job"
) -> Iterator[tuple[int, Any]]:
    """Call ``function`` once per job on the cluster; yields (number of the job, result) as they finish.

    Arguments may be references from ``ray.put``. ray must be connected. ``doing`` is for the messages of errors.

    Raises:
        PlinthError: as a task raised it, or for what happened to it (``ray_errors``).
    """
    task = ray.remote(function)
    most = max(2, int(IN_FLIGHT * ray.cluster_resources().get("CPU", 1)))
    queue, running = list(enumerate(jobs)), dict[Any, int]()
    queue.reverse()
    while queue or running:
        while queue and len(running) < most:
            number, arguments = queue.pop()
            running[task.remote(*arguments)] = number
        done, _ = ray.wait(list(running))
        with plain_errors(doing):
            result = ray.get(done[0])
        yield running.pop(done[0]), result


def await_cpu(progress: Progress) -> None:
    """Come back once the cluster has run a task of one CPU, which does nothing; say meanwhile what it waits for.

    Before work whose pieces tell nothing of themselves until they are done.
    """
    await_start([ray.remote(_nothing).options(num_cpus=1).remote()], 1, progress)


def await_start(first: Sequence[Any], cpus: float, progress: Progress) -> None:
    """Come back once one of the references is ready, of tasks or actors that want ``cpus`` CPUs each to begin."""
    told = False
    while not ray.wait(list(first), timeout=LOOK_S)[0]:
        progress.waits(awaited(cpus, ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)))
        told = True
    if told:
        progress.waits("")


def awaited(cpus: float, free: float, of: float) -> str:
    """For people: what keeps a task that wants ``cpus`` CPUs from running where ``free`` of ``of`` are free."""
    wanted = f"waits for {cpus:.3g} CPU{'s' if cpus > 1 else ''}"
    if of < cpus:
        return f"{wanted}: the cluster has {of:.3g}"
    if free < cpus:
        return f"{wanted}: {math.floor(free * 100) / 100:g} of {of:.3g} free"
    return "waits for a worker process to start"


def _nothing() -> None:
    pass


def worker_cpus() -> float:
    """What each actor of a pool of one per CPU reserves: together they leave a CPU of every node to other jobs.

    A reservation is not a limit: an actor alone on its node has the whole core. A pool holds what it reserves for
    minutes, and a task of another job, which wants one CPU, would wait for the end of the pool. ray must be connected.
    """
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return share_of(min((cpus for cpus in nodes if cpus >= 1), default=math.inf))


def share_of(cpus: float) -> float:
    """The same for nodes of ``cpus`` CPUs; Ray counts in ten-thousandths."""
    return math.floor(min(WORKER_CPUS, 1 - 1 / cpus) * 10_000) / 10_000
