"""Replicas that can never be placed are refused with the numbers, before anything is deployed."""

from __future__ import annotations

import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import UsageError
from serve_apps.replicas.options import graph_options
from serve_apps.scaling.room import check_room, surging

TWO_CORES = [{"CPU": 2.0, "memory": 8e9}]
CLUSTER = [{"CPU": 0.0, "node:__internal_head__": 1.0}, {"CPU": 8.0}, {"CPU": 16.0, "GPU": 1.0}]


def check(*overrides: str, nodes: list[dict[str, float]] = TWO_CORES, all_there: bool = True) -> None:
    config = configured(PlinthConfig(), [*overrides, f"cluster.single_node={str(all_there).lower()}"])
    check_room(graph_options(config, config.serve.with_registered(["small"])), nodes, all_there)


def test_the_laptop_reserves_nothing_and_fits_anywhere() -> None:
    check()
    check("serve.retriever_replicas.max=50", nodes=[{"CPU": 1.0}])


def test_what_fits_is_let_through() -> None:
    check("serve.replica_cpus=0.2", "serve.guard_replicas=2")
    check("serve.replica_cpus=1", nodes=CLUSTER, all_there=False)
    check('serve.tiers.small.resources={"CPU":16,"GPU":1}', "serve.tiers.small.max_replicas=9", nodes=CLUSTER,
          all_there=False)  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "nodes", "says"),
    [
        (["serve.tiers.small.threads=8", "serve.replica_cpus=0.5"], TWO_CORES,
         "tier-small: one replica reserves 4 CPU, and no node has that (at most 2 CPU): lower serve.tiers.small"),
        (['serve.tiers.small.resources={"GPU":1}'], TWO_CORES,
         "tier-small: one replica reserves 1 GPU, and no node has that (at most 0 GPU)"),
        (["serve.replica_cpus=0.2", "serve.embed_threads=2", "serve.retriever_replicas.max=6"], TWO_CORES,
         "retriever: 6 replicas of 0.4 CPU are 2.4 CPU, and there are 2: lower serve.retriever_replicas"),
        (["serve.replica_cpus=0.3"], TWO_CORES, "always there reserve 2.1 CPU together, and there are 2"),
        (['serve.tiers.small.resources={"GPU":1,"CPU":9}'], [{"CPU": 4.0, "GPU": 4.0}, {"CPU": 16.0}],
         "one replica reserves 9 CPU and 1 GPU, and no node has that"),
        (["serve.retriever_replicas=1"], [], "no node has that"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(overrides: list[str], nodes: list[dict[str, float]], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        check(*overrides, *(["serve.replica_cpus=1"] if not nodes else []), nodes=nodes)
    assert says in str(refused.value)


def test_where_nodes_can_be_added_only_one_replica_has_to_fit() -> None:
    check("serve.replica_cpus=2", "serve.retriever_replicas.max=100", nodes=CLUSTER, all_there=False)
    with pytest.raises(UsageError, match="one replica reserves 18 CPU"):
        check("serve.replica_cpus=9", nodes=CLUSTER, all_there=False)


def surges(*overrides: str, nodes: list[dict[str, float]] = TWO_CORES, grows: bool = False) -> set[str]:
    """The deployments whose old replicas answer until the new ones do."""
    config = configured(PlinthConfig(), list(overrides))
    found = surging(graph_options(config, config.serve.with_registered(["small"])), nodes, grows)
    assert all(options["max_surge_percent"] in (0, 100) for options in found.values())
    return {name for name, options in found.items() if options["max_surge_percent"]}


def test_on_a_laptop_everything_answers_until_its_successor_does() -> None:
    everything = {"guard", "retriever", "gateway", "tier-quote", "tier-small"}
    assert surges() == surges(nodes=[]) == everything
    assert surges("serve.replica_cpus=1", nodes=[{"CPU": 64.0}]) == everything


def test_who_waits_for_room_that_is_not_there_would_wait_for_ever() -> None:
    one_left = [{"CPU": 7.5}]  # six are taken, two of them by the model's two threads
    fitting = surges("serve.replica_cpus=1", "serve.guard_replicas=1", nodes=one_left)
    assert len(fitting) == 1
    assert surges("serve.replica_cpus=1", "serve.guard_replicas=1", nodes=one_left, grows=True) == surges()
    gpu = 'serve.tiers.small.resources={"GPU":1,"CPU":0}'
    assert "tier-small" not in surges(gpu, nodes=[{"CPU": 64.0, "GPU": 1.0}], grows=True)
    assert "tier-small" in surges(gpu, nodes=[{"CPU": 64.0, "GPU": 2.0}])
