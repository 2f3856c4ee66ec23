"""/metrics: what every node's metrics agent exports, together (R: asks Ray where the agents are).

Each node's agent gathers the processes of that node, without authentication and on loopback. All gateways run on one
machine and share page and ledger below PLINTH_HOME.
"""

from __future__ import annotations

import time

import ray

from cluster.core.home import Home
from serve_apps.metrics.agents import Agents
from serve_apps.metrics.shared import SharedPage

NODES_TTL_S = 10.0
FRESH_S = 2.0  # a page is given out again for so long


def metrics_page(home: Home) -> SharedPage:
    """The page of all gateways of this machine."""
    folder = home.folder("metrics")
    return SharedPage(folder, Agents(folder, Nodes()), FRESH_S)


class Nodes:
    """Callable that returns where each node's agent is; asks Ray every NODES_TTL_S seconds."""

    def __init__(self) -> None:
        self._asked = 0.0
        self._agents: dict[str, str] = {}

    def __call__(self) -> dict[str, str]:
        """Host and port, by the node's id."""
        if not self._agents or time.monotonic() - self._asked > NODES_TTL_S:
            alive = [node for node in ray.nodes() if node["Alive"]]
            self._agents = {
                node["NodeID"]: f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in alive
            }
            self._asked = time.monotonic()
        return self._agents
