"""What the actors of a pool reserve: a whole CPU of each node is left to a job beside them; what a job waits for."""

from __future__ import annotations

import math

import pytest

from data_jobs.tasks import WORKER_CPUS, awaited, share_of


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 7, 8])
def test_a_pool_of_one_actor_per_cpu_leaves_one_cpu(cpus: int) -> None:
    assert cpus * share_of(cpus) <= cpus - 1
    assert cpus * share_of(cpus) > cpus - 1 - 0.01, "and no more than that"


def test_large_nodes_and_those_still_to_come_reserve_most_of_a_cpu() -> None:
    assert share_of(64) == share_of(math.inf) == WORKER_CPUS


def test_what_is_awaited_is_said_with_numbers() -> None:
    assert awaited(1, free=0, of=2) == "waits for 1 CPU: 0 of 2 free"
    assert awaited(0.5, free=0.4999, of=2) == "waits for 0.5 CPU: 0.49 of 2 free"
    assert awaited(4, free=2, of=2) == "waits for 4 CPUs: the cluster has 2"
    assert awaited(1, free=1, of=2) == "waits for a worker process to start", "CPUs are not what is missing"
