"""How jobs share the CPUs: a Ray task per piece of work, a few per CPU in flight; what a pool of actors reserves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from cluster.ray_errors import plain_errors

# Most that an actor of a pool reserves: it gets a core, and the tenths left over make room for something beside it.
WORKER_CPUS = 0.9
# Pieces per CPU that Ray has at a time: enough that no worker waits, few enough that little is held in memory.
IN_FLIGHT = 2


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
