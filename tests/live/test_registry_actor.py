"""The registry actor on a real cluster: one writer for all drivers, back after a kill, and the mirror with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.registry.models import Registry
from actors.registry.runs import RunLog
from cluster.core.storage import Store
from tests.actors.published import publish

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]

# A cluster and a driver of its own. Each line of output is one thing the test looks at.
DRIVER = """
import json, os, signal, sys, time
import ray
from actors import spawn
from cluster.core.errors import BadInputError, PolicyRefusedError
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.actors.published import REFUSED, Gate, publish

store, home = Store(sys.argv[1]), Home.from_env()

def wait(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)

def state():
    return ray.get(client._handle.mirror_state.remote(), timeout=60)

def answers(client):
    try:
        return state()
    except ray.exceptions.RayActorError:
        return None

def names():
    return [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]

ray.init(num_cpus=2, namespace="plinth", include_dashboard=False, log_to_driver=False,
         _temp_dir=sys.argv[2], object_store_memory=150_000_000)
try:
    client = spawn.registry(store, home)
    one = client.register("small", publish(store, "small", "one").version).version
    client.promote("small", one, Gate())
    try:
        client.register("small", "0" * 12)
    except BadInputError as error:
        print("error", type(error).__name__)
    try:
        client.promote("small", one, REFUSED)
    except PolicyRefusedError as error:
        print("error", type(error).__name__)
    wait((home.root / "mlflow.db").exists)
    print("mode", oct(os.stat(home.root / "mlflow.db").st_mode & 0o777))

    print("names", json.dumps(names()))
    assert spawn.registry(store, home)._handle._actor_id == client._handle._actor_id, "found, not started again"

    before = state()["pid"]
    (home.root / "mlflow.db").unlink()
    os.kill(before, signal.SIGKILL)
    two = client.register("small", publish(store, "small", "two").version).version  # while it is down: written directly
    wait(lambda: answers(client))
    client.nudge()
    wait((home.root / "mlflow.db").exists)
    client.refuse("small", two, REFUSED)
    print("restarted", state()["pid"] != before)

    spawn.ACTORS["registry"] = spawn.ActorOptions("registry", "actors.registry.runs")  # as if the code had changed
    newer = spawn.registry(store, home)
    newer.nudge()
    wait(lambda: names() == [spawn.ACTORS["registry"].name])
    print("replaced", newer._handle._actor_id != client._handle._actor_id)
finally:
    ray.shutdown()
"""


def test_the_registry_actor(home: Path, tmp_path: Path) -> None:
    store = Store(str(home / "store"))
    log = RunLog(store, "pretrain-1", "pretrain", {"hidden": 160})
    log.log(1, train_loss=1.0)
    log.finish("finished")
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, store.uri, f"/tmp/pr{os.getpid()}"]  # Ray's sockets need a short path
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, rest = line.partition(" ")
        said.setdefault(name, []).append(rest)
    assert said["error"] == ["BadInputError", "PolicyRefusedError"], "errors arrive as what they are"
    assert said["mode"] == ["0o600"]
    assert len(json.loads(said["names"][0])) == 1
    assert (said["restarted"], said["replaced"]) == (["True"], ["True"])
    one, two = (publish(store, "small", body).version for body in ("one", "two"))
    assert [(e.event, e.version) for e in Registry(store).history("small")] == [
        ("registered", one), ("candidate", one), ("gate_passed", one), ("promoted", one),
        ("registered", two), ("candidate", two), ("gate_refused", two),
    ]  # fmt: skip
