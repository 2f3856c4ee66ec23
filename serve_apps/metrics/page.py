"""/metrics: what every node's metrics agent exports, together (R: asks Ray where the agents are).

Each node's agent gathers the processes of that node, without authentication and on loopback; ``metrics_text`` adds them
up.
"""

from __future__ import annotations

import asyncio
import time

import httpx
import ray

from serve_apps.metrics.text import combined

NODES_TTL_S = 10.0


class MetricsPage:
    """Callable that returns the page; remembers the nodes' addresses for NODES_TTL_S seconds."""

    def __init__(self) -> None:
        self._asked = 0.0
        self._targets: list[str] = []

    async def __call__(self) -> str:
        """Prometheus text of all nodes; a node that does not answer within 2 s is left out and counted."""
        targets = await asyncio.to_thread(self._nodes)
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            pages = await asyncio.gather(*(_page(client, target) for target in targets))
        found = [page for page in pages if page is not None]
        return await asyncio.to_thread(combined, found, len(pages) - len(found))

    def _nodes(self) -> list[str]:
        if not self._targets or time.monotonic() - self._asked > NODES_TTL_S:
            alive = [node for node in ray.nodes() if node["Alive"]]
            self._targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in alive]
            self._asked = time.monotonic()
        return self._targets


async def _page(client: httpx.AsyncClient, target: str) -> str | None:
    try:
        reply = await client.get(f"http://{target}/metrics")
    except httpx.TransportError:
        return None
    return reply.text if reply.status_code == 200 else None
