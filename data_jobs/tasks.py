"""One Ray task per piece of work, a few per CPU in flight: what the jobs without Ray Data share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.core.errors import PlinthError

IN_FLIGHT = 2  # pieces per CPU handed to Ray at a time: enough that no worker waits, little that is held


def spread(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    """Call ``function`` once per job on the cluster; yields (number of the job, result) as they finish.

    Arguments may be references from ``ray.put``. ray must be connected.

    Raises:
        PlinthError: as a task raised it, without Ray's wrapping.
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
        try:
            yield running.pop(done[0]), ray.get(done[0])
        except RayTaskError as error:
            if isinstance(error.cause, PlinthError):
                raise error.cause from None
            raise
