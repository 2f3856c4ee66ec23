"""What a group of training workers needs of the cluster: counted, refused where no node has it, and put into words.

Plain dictionaries of Ray's resource names come in (``{"CPU": 8.0, "GPU": 1.0}``, one for each node); ray is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.sections.train import TrainSection

# A placement group wants some CPU of each worker; this much takes none from anybody.
NO_CPU = 0.001
GROUP_LABEL = "plinth.group"  # of nodes, in ray-cluster.yaml
Resources = Mapping[str, float]


@dataclass(frozen=True)
class NodeType:
    """Nodes that an autoscaler may start: what each has, how many there may be, and how they are labelled."""

    resources: Resources
    most: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """A group of workers: ``least`` to ``most`` of them (the same for a fixed group), each with ``cpus`` and ``gpus``.

    ``cpus`` is 0 where a worker reserves none and shares the machine with everything else. ``node_group`` names the
    nodes they run on, empty for any.
    """

    least: int
    most: int
    cpus: float = 0.0
    gpus: int = 0
    node_group: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """What the nodes must be labelled with."""
        return {GROUP_LABEL: self.node_group} if self.node_group else {}

    def may_use(self, labels: Mapping[str, str]) -> bool:
        """Whether nodes with these labels are those that workers may run on."""
        return all(labels.get(name) == value for name, value in self.labels.items())

    @property
    def elastic(self) -> bool:
        """Whether the group may grow and shrink."""
        return self.least < self.most

    @property
    def each(self) -> dict[str, float]:
        """What Ray reserves for one worker."""
        found = {"CPU": self.cpus or NO_CPU}
        return {**found, "GPU": float(self.gpus)} if self.gpus else found

    def __str__(self) -> str:
        """``2 x 4 CPU``, ``1 to 8 x (8 CPU, 1 GPU)``, ``2 x no CPU``."""
        parts = [f"{self.cpus:g} CPU"] if self.cpus else []
        parts += [f"{self.gpus} GPU"] if self.gpus else []
        each = ", ".join(parts) or "no CPU"
        number = f"{self.least} to {self.most}" if self.elastic else f"{self.most}"
        where = f" on nodes of the group {self.node_group}" if self.node_group else ""
        return f"{number} x {f'({each})' if len(parts) > 1 else each}{where}"


def wanted(section: TrainSection, total: Resources) -> Wanted:
    """The group that the settings ask for on a cluster which has ``total`` now.

    Without ``train.workers`` it is one worker for each GPU where workers have GPUs, else two where there are two CPUs.

    Raises:
        UsageError: ``train.workers_min`` is more than ``train.workers``.
    """
    by_gpus, by_cpus = int(total.get("GPU", 0)), min(2, int(total.get("CPU", 0)))
    most = section.workers or max(1, by_gpus if section.gpus else by_cpus)
    if section.workers_min > most:
        raise UsageError(
            f"train.workers_min={section.workers_min} is more than train.workers={most}: give the least first"
        )
    return Wanted(section.workers_min or most, most, section.worker_cpus, section.gpus, section.node_group)


def workers_on(each: Resources, node: Resources) -> int:
    """How many workers one node holds."""
    return min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in each.items() if amount > 0)


def refuse_impossible(group: Wanted, nodes: Iterable[Resources], types: Iterable[NodeType] = ()) -> None:
    """Refuse a group that the cluster can never hold, however long one waits.

    Args:
        nodes: what the nodes that run now and that it may use have in all, used or not.
        types: what an autoscaler may start (the running ones of these types are counted with them).

    Raises:
        EnvironmentFaultError: no node holds one worker, or all together not the least number of workers.
    """
    running, startable = list(nodes), [kind for kind in types if group.may_use(kind.labels)]
    holds = max(
        sum(workers_on(group.each, node) for node in running),
        sum(workers_on(group.each, kind.resources) * kind.most for kind in startable),
    )
    if holds >= group.least:
        return
    seen = [*running, *(kind.resources for kind in startable if kind.most)]
    largest = ", ".join(f"{_most(seen, name):g} {name}" for name in ("CPU", "GPU"))
    if not holds:
        what = f"no node there is or may be has that (the most one has: {largest})"
    else:
        what = f"all nodes together hold {holds} such worker{'s' if holds > 1 else ''}"
    raise EnvironmentFaultError(
        f"training wants {group}, and {what}: lower train.workers, train.worker_cpus or train.gpus, or add nodes",
        wanted=str(group), holds=holds,
    )  # fmt: skip


def what_is_awaited(group: Wanted, free: Sequence[Resources]) -> str:
    """``waits for 2 x 4 CPU; free: 1`` where the nodes have too little free now, empty where nothing is awaited.

    Args:
        free: what is unused on each node that it may use.
    """
    if not (group.cpus or group.gpus) or sum(workers_on(group.each, node) for node in free) >= group.least:
        return ""
    names = ["CPU"] * bool(group.cpus) + ["GPU"] * bool(group.gpus)
    sums = {name: sum(node.get(name, 0) for node in free) for name in names}
    had = f"{sums[names[0]]:g}" if len(names) == 1 else ", ".join(f"{sums[name]:g} {name}" for name in names)
    return f"waits for {group}; free: {had}"


def node_types(config: Mapping[str, Any]) -> list[NodeType]:
    """The node types of a cluster file (``ray-cluster.yaml``), the head's among them: there is one head."""
    limit, head = int(config.get("max_workers", 2)), config.get("head_node_type")
    kinds: Mapping[str, Mapping[str, Any]] = config["available_node_types"]
    most = {n: 1 if n == head else min(limit, int(kind.get("max_workers", limit))) for n, kind in kinds.items()}
    return [NodeType(kind.get("resources", {}), most[n], kind.get("labels", {})) for n, kind in kinds.items()]


def _most(nodes: Iterable[Resources], name: str) -> float:
    return max((node.get(name, 0.0) for node in nodes), default=0.0)
