"""The ledger actor on a real cluster: 500 calls at once over several gateways while it is killed, and it gives way to
newer code without losing anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.ci]
ROOT = Path(__file__).resolve().parents[2]

DRIVER = """
import asyncio, json, os, signal, sys, time
from datetime import UTC, datetime
import ray
from actors import spawn
from actors.ledger.amounts import Amount, Need, Used
from actors.ledger.wallet import RefusedError, Wallet
from cluster.core.config import PlinthConfig
from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.identity import Limits, Principal
from cluster.core.sections.ledger import LedgerSection

home, config = Home.from_env(), PlinthConfig()
section = LedgerSection(wait_s=30, report_s=0.2)
WHO = Principal("ann", "lab", limits=Limits(requests_per_minute=120, tokens_per_day=1_000_000))
TODAY = datetime.now(UTC).date().isoformat()

async def request(wallet):
    try:
        hold = await wallet.reserve(WHO, Need(Amount(1, 100), Amount(1, 100)))
    except RefusedError as error:
        return error.refusal.limit
    await asyncio.sleep(0.01)
    wallet.settle(hold, Used(TODAY, "ann", "lab", "quote", 1, 10, 5, 0))
    return "served"

async def main():
    clients = [spawn.ledger(config, home) for _ in range(4)]
    wallets = [Wallet(client, section, home.run / "ledger") for client in clients]
    assert (await request(wallets[0])) == "served"
    handle = await clients[0]._finding
    before = (await handle.about.options(concurrency_group="control").remote())["pid"]
    calls = [asyncio.create_task(request(wallets[n % 4])) for n in range(499)]
    await asyncio.sleep(0)
    os.kill(before, signal.SIGKILL)
    said = await asyncio.gather(*calls)
    print("served", 1 + said.count("served"))
    print("refused", said.count("requests_per_minute"))
    after = (await handle.about.options(concurrency_group="control").remote())["pid"]
    print("restarted", after != before)
    for wallet in wallets:
        await wallet.stop()
    rows = await clients[1].usage("", "", "ann", "")
    print("booked", sum(row.requests for row in rows))

    spawn.ACTORS["ledger"] = spawn.ActorOptions("ledger", "actors.ledger.usage")  # as if the code had changed
    newer = spawn.ledger(config, home)
    print("still", sum(row.requests for row in await newer.usage("", "", "ann", "")))
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    print("names", names == [spawn.ACTORS["ledger"].name])
    try:
        await clients[0].usage("", "", "ann", "")  # its actor is gone: it says so, then finds the new one
    except EnvironmentFaultError as error:
        print("gone", type(error).__name__)
    print("found", sum(row.requests for row in await clients[0].usage("", "", "ann", "")))

ray.init(num_cpus=2, namespace="plinth", include_dashboard=False, log_to_driver=False,
         _temp_dir=sys.argv[1], object_store_memory=150_000_000)
try:
    asyncio.run(main())
finally:
    ray.shutdown()
"""


def test_the_ledger_actor(home: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, f"/tmp/pl{os.getpid()}"]  # Ray's sockets need a short path
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert json.loads(said["served"]) == 120, "not one more, and not one less"
    assert json.loads(said["refused"]) == 380
    assert json.loads(said["booked"]) == json.loads(said["still"]) == json.loads(said["found"]) == 120
    assert (said["restarted"], said["names"], said["gone"]) == ("True", "True", "EnvironmentFaultError")
