"""A step of load on a deployment of the platform's own making, as a driver beside a running head.

The replicas stand for ones whose work is done elsewhere (an accelerator, another server): each request takes its turn
and then a while, in a thread that uses no processor. So more replicas help on any machine, as many cores as it may
have. Options, policy, what replicas tell and what `plinth status` reads are those of the platform. Writes what it saw
to ``$PLINTH_HOME/seen.json`` for ``test_replica_scaling.py`` to judge.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

from cluster.connect import connected
from cluster.core.config import configured
from cluster.core.home import Home
from cluster.core.presets import preset
from cluster.deployments import APPLICATION, deployments
from cluster.local_head import Instance, recorded
from serve_apps.replicas.options import graph_options
from serve_apps.scaling.load import TEXTS, CountedThreads, Load

SETTINGS = ["serve.retriever_replicas.max=5", "serve.retriever_replicas.target=2", "serve.scaling.down_after_s=8"]
WORK_S, STREAM_S, ITEM_S, WATCH_S = 0.3, 30.0, 1.0, 0.5
ALONE_S, CROWD_S, AFTER_S = 15.0, 75.0, 45.0


class Elsewhere:
    """One replica: a text after the other, and streams."""

    def __init__(self) -> None:
        from serve_apps.deploy import stay_on_loopback

        stay_on_loopback(preset("laptop"))
        self.load = Load(TEXTS)
        self._work = CountedThreads(self.load, 1)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return self.load.stats()

    async def work(self, texts: list[str]) -> int:
        pause = threading.Event().wait
        await asyncio.get_running_loop().run_in_executor(self._work, lambda asked: pause(WORK_S * len(asked)), texts)
        return os.getpid()

    async def stream(self, seconds: float) -> AsyncGenerator[int, None]:
        for _ in range(round(seconds / ITEM_S)):  # no load that is counted: all replicas but one are taken away
            yield os.getpid()
            await asyncio.sleep(ITEM_S)  # writing takes a while


def main() -> int:
    home = Home.from_env()
    instance = recorded(home)
    assert instance is not None
    with connected(home):
        from ray import serve

        config = configured(preset("laptop"), SETTINGS)
        options = graph_options(config, ())["retriever"]
        serve.start(http_options={"host": instance.host, "port": instance.http_port})
        handle = serve.run(
            serve.deployment(Elsewhere).options(name="elsewhere", **options).bind(), name=APPLICATION, route_prefix=None
        )
        seen = asyncio.run(Scenario(home, instance, handle).runs())
    (home.root / "seen.json").write_text(json.dumps(seen, indent=1))
    return 0


class Scenario:
    """One client, ten, one; then streams on replicas that are taken away."""

    def __init__(self, home: Home, instance: Instance, handle: Any) -> None:
        self._home, self._instance, self._handle, self._began = home, instance, handle, time.monotonic()
        self._answers: list[tuple[float, float]] = []  # (when it ended, seconds)
        self._counts: list[tuple[float, int, int]] = []  # (when, running, wanted)

    async def runs(self) -> dict[str, Any]:
        watch = asyncio.create_task(self._watch())
        alone = await self._clients(1, ALONE_S)
        crowd = await self._clients(10, CROWD_S)
        streams = await asyncio.gather(*(self._stream() for _ in range(3)))
        after = await self._clients(1, AFTER_S)
        watch.cancel()
        last = {"deployment": await self._deployment(), "metrics": await metrics(self._home)}
        when = {"alone": alone, "crowd": crowd, "after": after}
        return {**when, **last, "streams": streams, "counts": self._counts, "answers": self._answers}

    async def _deployment(self) -> dict[str, Any]:
        found = await asyncio.to_thread(deployments, self._home, self._instance)
        return next((one.to_dict() for one in found), {})

    async def _watch(self) -> None:
        while True:
            if one := await self._deployment():
                self._counts.append((self._now(), one["running"], one["target"]))
            await asyncio.sleep(WATCH_S)

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 2)

    async def _clients(self, count: int, seconds: float) -> tuple[float, float]:
        """So many clients, each of which asks again when it is answered; from when to when."""
        begin, deadline = self._now(), time.monotonic() + seconds

        async def client() -> None:
            while (sent := time.monotonic()) < deadline:
                await self._handle.work.remote(["text"])
                self._answers.append((self._now(), round(time.monotonic() - sent, 3)))

        await asyncio.gather(*(client() for _ in range(count)))
        return begin, self._now()

    async def _stream(self) -> dict[str, Any]:
        """A stream that lasts longer than the replica under it may: how many of them there are at its end."""
        pids = [pid async for pid in self._handle.options(stream=True).stream.remote(STREAM_S)]
        return {"items": len(pids), "pids": sorted(set(pids)), "running": (await self._deployment()).get("running")}


async def metrics(home: Home) -> list[str]:
    """The lines about scale events on the service's page of metrics, which are exported now and then."""
    from serve_apps.metrics.page import metrics_page

    deadline, found = time.monotonic() + 30, []
    while not found and time.monotonic() < deadline:
        page = await metrics_page(home)()
        found = [line for line in page.splitlines() if line.startswith("plinth_scale_events_total{")]
        await asyncio.sleep(0.1)
    return found


if __name__ == "__main__":
    sys.exit(main())
