"""Groups of workers that a cluster can never hold are refused at once; for others one can say what they wait for."""

from __future__ import annotations

import pytest

from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.sections.train import TrainSection
from train_jobs.distributed.resources import (
    NO_CPU,
    NodeType,
    Wanted,
    node_types,
    refuse_impossible,
    wanted,
    what_is_awaited,
    workers_on,
)

LAPTOP = {"CPU": 2.0, "memory": 8e9}
BIG = {"CPU": 96.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("settings", "total", "group"),
    [
        ({}, {"CPU": 2.0}, Wanted(2, 2)),
        ({}, {"CPU": 64.0}, Wanted(2, 2)),
        ({}, {"CPU": 1.0}, Wanted(1, 1)),
        ({}, {}, Wanted(1, 1)),
        ({"workers": 3, "worker_cpus": 1.5}, {"CPU": 1.0}, Wanted(3, 3, 1.5)),
        ({"gpus": 1}, BIG, Wanted(8, 8, 0.0, 1)),  # one worker for every GPU
        ({"gpus": 1}, {"CPU": 4.0}, Wanted(1, 1, 0.0, 1)),
        ({"workers": 8, "workers_min": 2, "gpus": 1}, {}, Wanted(2, 8, 0.0, 1)),
    ],
)
def test_the_group_is_what_settings_and_cluster_say(settings: dict, total: dict, group: Wanted) -> None:
    assert wanted(TrainSection(**settings), total) == group


def test_a_minimum_above_the_number_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"workers_min=3.*train.workers=2"):
        wanted(TrainSection(workers=2, workers_min=3), BIG)


def test_what_a_worker_reserves_is_never_nothing() -> None:
    assert Wanted(2, 2).each == {"CPU": NO_CPU}
    assert Wanted(2, 2, 4.0, 1).each == {"CPU": 4.0, "GPU": 1.0}
    assert workers_on(Wanted(1, 1).each, LAPTOP) >= 1000
    assert workers_on({"CPU": 0.1}, {"CPU": 0.3}) == 3  # not 2, as floats would have it


@pytest.mark.parametrize(
    ("group", "nodes", "types", "why"),
    [
        (Wanted(1, 1, 4.0), [LAPTOP], [], r"1 x 4 CPU, and no node .*2 CPU, 0 GPU"),
        (Wanted(1, 1, 0.0, 1), [LAPTOP], [], r"1 x 1 GPU, and no node"),
        (Wanted(2, 2, 2.0), [LAPTOP], [], r"2 x 2 CPU, and all nodes together hold 1 such worker:"),
        (Wanted(3, 9, 1.0), [LAPTOP], [], r"3 to 9 x 1 CPU, and all .* hold 2 such workers"),
        (Wanted(9, 9, 1.0, 1), [{}], [NodeType(BIG, 1)], r"hold 8"),
        (Wanted(1, 1, 1.0), [{}], [NodeType(BIG, 0)], r"no node"),
    ],
)
def test_a_group_that_can_never_be_is_refused(group: Wanted, nodes: list, types: list, why: str) -> None:
    with pytest.raises(EnvironmentFaultError, match=why):
        refuse_impossible(group, nodes, types)


@pytest.mark.parametrize(
    ("group", "nodes", "types"),
    [
        (Wanted(2, 2), [LAPTOP], []),
        (Wanted(2, 2, 1.0), [{"CPU": 1.0}, {"CPU": 1.0}], []),  # on two nodes
        (Wanted(2, 9, 1.0), [LAPTOP], []),  # the least is enough
        (Wanted(32, 32, 12.0, 1), [{"CPU": 0.0}], [NodeType(BIG, 4)]),  # nodes that do not exist yet
        (Wanted(2, 2, 1.0), [LAPTOP], [NodeType({"CPU": 0.5}, 9)]),  # those of an autoscaler are no limit
    ],
)
def test_a_group_that_may_be_is_not(group: Wanted, nodes: list, types: list) -> None:
    refuse_impossible(group, nodes, types)


def test_only_nodes_of_the_named_group_count() -> None:
    types = [NodeType(BIG, 4, {"plinth.group": "gpu8"}), NodeType({"CPU": 8.0}, 4, {"plinth.group": "cpu"})]
    refuse_impossible(Wanted(4, 4, 8.0, 0, "cpu"), [], types)
    with pytest.raises(EnvironmentFaultError, match=r"1 GPU on nodes of the group cpu, and no node"):
        refuse_impossible(Wanted(4, 4, 0.0, 1, "cpu"), [], types)
    assert Wanted(1, 1, node_group="cpu").may_use({"plinth.group": "cpu", "other": "x"})
    assert not Wanted(1, 1, node_group="cpu").may_use({})


def test_a_wait_says_for_what() -> None:
    assert what_is_awaited(Wanted(2, 2, 4.0), [{"CPU": 1.0}]) == "waits for 2 x 4 CPU; free: 1"
    fragments = [{"CPU": 3.0}, {"CPU": 3.0}]  # six are free, and no node has four
    assert what_is_awaited(Wanted(1, 1, 4.0), fragments) == "waits for 1 x 4 CPU; free: 6"
    both = what_is_awaited(Wanted(1, 2, 4.0, 1), [{"CPU": 8.0}])
    assert both == "waits for 1 to 2 x (4 CPU, 1 GPU); free: 8 CPU, 0 GPU"
    assert what_is_awaited(Wanted(2, 2, 4.0), [{"CPU": 8.0}]) == ""
    assert what_is_awaited(Wanted(2, 2), [{"CPU": 0.0}]) == ""  # reserves nothing that counts


def test_node_types_of_a_cluster_file() -> None:
    file = {
        "max_workers": 3,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}},
            "small": {"resources": {"CPU": 2}, "max_workers": 9, "labels": {"plinth.group": "small"}},
            "plain": {},
        },
    }
    assert node_types(file) == [
        NodeType({"CPU": 0}, 1), NodeType({"CPU": 2}, 3, {"plinth.group": "small"}), NodeType({}, 3),
    ]  # fmt: skip
