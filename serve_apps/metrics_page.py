"""/metrics: what every node's metrics agent exports, together (R: asks Ray where the agents are).

Each node's agent already aggregates the processes of that node; the page is the concatenation of all nodes, filtered to
the platform's and Serve's own series. Agents listen without authentication, on loopback.
"""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import ray

NODES_TTL_S = 10.0
WANTED = re.compile(r"^(# (HELP|TYPE) )?ray_(plinth|serve)_")
_nodes: tuple[float, tuple[str, ...]] = (0.0, ())


async def collect() -> str:
    """Prometheus text of all nodes; a node that does not answer within 2 s is left out and counted.

    The last line is ``plinth_metrics_nodes_missing``, a gauge.
    """
    targets = await asyncio.to_thread(_targets)
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        pages = await asyncio.gather(*(_page(client, target) for target in targets))
    found = [page for page in pages if page is not None]
    lines: list[str] = []
    described: set[str] = set()
    for page in found:
        for line in page.splitlines():
            if not WANTED.match(line) or (line.startswith("#") and line in described):
                continue
            described.add(line) if line.startswith("#") else None
            lines.append(line)
    missing = len(pages) - len(found)
    lines += ["# TYPE plinth_metrics_nodes_missing gauge", f"plinth_metrics_nodes_missing {missing}"]
    return "\n".join(lines) + "\n"


async def _page(client: httpx.AsyncClient, target: str) -> str | None:
    try:
        reply = await client.get(f"http://{target}/metrics")
    except httpx.TransportError:
        return None
    return reply.text if reply.status_code == 200 else None


def _targets() -> tuple[str, ...]:
    """Addresses of the nodes' agents from the node table, kept for NODES_TTL_S. Blocking: call in a thread."""
    global _nodes
    asked, targets = _nodes
    if not targets or time.monotonic() - asked > NODES_TTL_S:
        alive = [node for node in ray.nodes() if node["Alive"]]
        targets = tuple(f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in alive)
        _nodes = (time.monotonic(), targets)
    return targets
