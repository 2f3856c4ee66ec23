"""What the actors of a pool reserve: a whole CPU of each node is left to a job beside them."""

from __future__ import annotations

import math

import pytest

from data_jobs.tasks import WORKER_CPUS, share_of


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 7, 8])
def test_a_pool_of_one_actor_per_cpu_leaves_one_cpu(cpus: int) -> None:
    assert cpus * share_of(cpus) <= cpus - 1
    assert cpus * share_of(cpus) > cpus - 1 - 0.01, "and no more than that"


def test_large_nodes_and_those_still_to_come_reserve_most_of_a_cpu() -> None:
    assert share_of(64) == share_of(math.inf) == WORKER_CPUS
