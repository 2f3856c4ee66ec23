"""One Ray task per piece of work, a few per CPU in flight: what the jobs without Ray Data share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from cluster.ray_errors import plain_errors

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
