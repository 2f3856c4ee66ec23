"""Two replicas behind the platform's own request router and tier handle on a real local Ray: a driver beside a head.

The replicas stand for ones with an engine: they say who they are and take as long as they are told. Options, router and
handle are those of the platform. Writes what it saw to ``$PLINTH_HOME/seen.json`` for ``test_affinity.py`` to judge.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cluster.connect import connected
from cluster.core.config import configured
from cluster.core.home import Home
from cluster.core.presets import preset
from cluster.core.records import Answer
from cluster.deployments import APPLICATION
from cluster.local_head import recorded
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.replicas.options import tier_options
from tests.fakes import PASSAGE

if TYPE_CHECKING:
    from serve_apps.gateway.handles import TierHandle

SETTINGS = ["serve.tiers.big.engine=vllm", "serve.tiers.big.standby=1", 'serve.tiers.big.resources={"GPU":0}']
ROUNDS, CROWD, HOLD_S = 8, 8, 2.0


class Named:
    """One replica: says its process id, then waits as many seconds as the question says."""

    def __init__(self) -> None:
        from serve_apps.deploy import stay_on_loopback

        stay_on_loopback(preset("laptop"))

    async def state(self) -> TierState:
        return TierState("big", continues=True)

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling, **carried: Any
    ) -> AsyncGenerator[str | Answer, None]:
        yield str(os.getpid())
        await asyncio.sleep(float(question))  # an answer takes a while
        yield Answer("")


class Door:
    """What stands in front of the tier, as the gateway does: a router of one's own is not for the first deployment."""

    def __init__(self, tier: Any) -> None:
        self.tier = tier


def about(*names: str) -> Retrieval:
    return Retrieval("q", tuple(replace(PASSAGE, chunk=name) for name in names), index_version="v1")


LEAVE, TRAVEL = about("leave", "general"), about("travel", "general")


async def ask(tier: TierHandle, found: Retrieval, seconds: float = 0.0) -> int:
    """The process that answered."""
    said = [item async for item in tier.stream(str(seconds), found, Sampling())]
    return int(str(said[0]))


async def timed(tier: TierHandle, found: Retrieval) -> dict[str, Any]:
    """One ask as the gateway makes it: who answered (0: nobody), and after how long."""
    began = time.monotonic()
    try:
        await tier.refresh()
        known = time.monotonic() - began
        pid = await ask(tier, found) if tier.state.ready else 0
    except UnavailableError:
        pid = 0
    return {"pid": pid, "known_s": round(known, 3), "s": round(time.monotonic() - began, 3)}


async def runs(handle: Any) -> dict[str, Any]:
    from serve_apps.gateway.handles import TierHandle  # imports ray, which `connected` has prepared now

    tier = TierHandle(TierState("big", ready=False), handle, follows=True)
    seen: dict[str, Any] = {"leave": [], "travel": []}
    await tier.refresh()
    for _ in range(ROUNDS):
        seen["leave"].append(await ask(tier, LEAVE))
        seen["travel"].append(await ask(tier, TRAVEL))
    seen["crowd"] = await asyncio.gather(*(ask(tier, LEAVE, HOLD_S) for _ in range(CROWD)))
    killed = seen["killed"] = seen["leave"][0]
    os.kill(killed, signal.SIGKILL)
    seen["after"] = [await timed(tier, LEAVE) for _ in range(4)]
    deadline = time.monotonic() + 90
    while len(left := {*(await asyncio.gather(*(ask(tier, LEAVE, HOLD_S) for _ in range(CROWD))))}) < 2:
        assert time.monotonic() < deadline, f"the other replica did not come back: {seen}"
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    seen["none_left"] = [await timed(tier, LEAVE) for _ in range(3)]
    return seen


def main() -> int:
    home = Home.from_env()
    instance = recorded(home)
    assert instance is not None
    with connected(home):
        from ray import serve

        config = configured(preset("laptop"), SETTINGS)
        options = {**tier_options(config.serve, config.serve.tier("big")), "name": "named"}
        serve.start(http_options={"host": instance.host, "port": instance.http_port})
        named = serve.deployment(Named).options(**options).bind()
        serve.run(serve.deployment(Door).bind(named), name=APPLICATION, route_prefix=None)
        handle = serve.get_deployment_handle("named", APPLICATION)
        seen = asyncio.run(runs(handle))
    (home.root / "seen.json").write_text(json.dumps(seen, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
