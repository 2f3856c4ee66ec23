"""What the metrics agents of all nodes export, as one page whose counters never fall. Plain: nodes are handed in."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from cluster.core.telemetry import log_event
from serve_apps.errors import UnavailableError
from serve_apps.metrics.ledger import Ledger
from serve_apps.metrics.shared import keep
from serve_apps.metrics.text import gauges, page, readings

ANSWER_S = 8.0  # an agent that has not answered by then is left out; Prometheus itself waits for 10 s
_NO_TLS = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # agents speak plain HTTP: reading certificates for each page is waste


class Agents:
    """Callable that makes the page.

    Args:
        folder: where the ledger is kept, which outlives this process and all the others.
        nodes: the address of each node's agent, by the node's id, which is a new one after a restart; may block.
    """

    def __init__(self, folder: Path, nodes: Callable[[], dict[str, str]]) -> None:
        self._path, self._nodes = folder / "ledger.json", nodes

    async def __call__(self) -> str:
        """Prometheus text of all nodes. Counters of a node that does not answer stay where they were.

        Raises:
            UnavailableError: no agent answered.
        """
        targets = await asyncio.to_thread(self._nodes)
        async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False, verify=_NO_TLS) as client:
            texts = await asyncio.gather(*(_text(client, target) for target in targets.values()))
        found = {node: text for node, text in zip(targets, texts, strict=True) if text is not None}
        if not found:
            raise UnavailableError(f"none of the {len(targets)} metrics agents answered")
        return await asyncio.to_thread(self._page, found, list(targets))

    def _page(self, texts: dict[str, str], alive: list[str]) -> str:
        ledger = self._read()
        told = {node: list(readings(text)) for node, text in texts.items()}
        ledger.enter(told, alive, time.time())
        keep(self._path, ledger.dumps())
        everything = [one for found in told.values() for one in found]
        families = {**ledger.families, **{one.family.name: one.family for one in everything}}
        return page({**ledger.totals(), **gauges(everything)}, families, len(alive) - len(texts))

    def _read(self) -> Ledger:
        try:
            return Ledger.loads(self._path.read_text())
        except FileNotFoundError:
            return Ledger()
        except ValueError as error:  # somebody wrote into it: counters begin anew
            log_event("gateway", "metrics_ledger_lost", error=str(error)[:300])
            return Ledger()


async def _text(client: httpx.AsyncClient, target: str) -> str | None:
    try:
        reply = await client.get(f"http://{target}/metrics")
    except httpx.TransportError:
        return None
    return reply.text if reply.status_code == 200 else None
