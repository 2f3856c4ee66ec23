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

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.ci]
ROOT = Path(__file__).resolve().parents[2]

# A cluster and a driver of its own. Each line of output is one thing the test looks at.
PRELUDE = """
import json, os, signal, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
import ray
from actors import spawn
from cluster.core.errors import BadInputError, PolicyRefusedError
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.actors.published import REFUSED, Gate, publish

store, home = Store(sys.argv[1]), Home.from_env()

def wait(condition, seconds=300):
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
"""

DRIVER = """
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

# The code changes while a write is held up by its model's lock; then drivers of two codes start at once.
CHANGE = """
def about(handle):
    return ray.get(handle.about.options(concurrency_group="control").remote(), timeout=60)

try:
    client = spawn.registry(store, home)
    old = client._handle
    version = publish(store, "small", "one").version
    with ExitStack() as held, ThreadPoolExecutor(2) as threads:
        held.enter_context(store.locked("models", "small", "history"))
        slow = old.write.remote("register", "slow@test", {"name": "small", "version": version})
        wait(lambda: about(old)["writing"])
        spawn.ACTORS["registry"] = spawn.ActorOptions("registry", "actors.registry.runs")
        change = threads.submit(spawn.registry, store, home)
        wait(lambda: about(old)["draining"])
        late = threads.submit(client.taint, "small", version, "late")  # reaches the old actor
        print("waits", not change.done() and not ray.wait([slow], timeout=1)[0])
        held.close()
        print("finished", ray.get(slow, timeout=60).version == version)
        late.result(120)
        new = change.result(120)._handle
    print("moved", client._handle._actor_id == new._actor_id != old._actor_id)
    wait(lambda: names() == [spawn.ACTORS["registry"].name])

    address, later = ray.get_runtime_context().gcs_address, time.time() + 100
    given = [("actors.registry.models", later), ("actors.registry.history", later + 100)] * 2
    command = [sys.executable, "-c", sys.argv[3], store.uri, address]
    drivers = [subprocess.Popen([*command, module, str(at)], stdout=subprocess.PIPE, text=True) for module, at in given]
    wrote = [driver.communicate(timeout=240)[0].split() for driver in drivers]
    print("drivers", json.dumps([driver.returncode for driver in drivers]))
    print("agree", len({tuple(words) for words in wrote}) == 1)
    print("left", names() == [spawn.ActorOptions("registry", "actors.registry.history").name])
    client.taint("small", version, "of older code")  # uses the newer actor, does not bring its own back
    print("stays", names() == [spawn.ActorOptions("registry", "actors.registry.history").name])
finally:
    ray.shutdown()
"""

# One of several drivers: which code it has and since when are given; it writes ten times.
WRITER = """
import sys
import ray
from actors import spawn
from cluster.core.home import Home
from cluster.core.storage import Store
uri, address, module, loaded_at = sys.argv[1:]
spawn.LOADED_AT = float(loaded_at)
spawn.ACTORS["registry"] = spawn.ActorOptions("registry", module)
ray.init(address=address, namespace="plinth", log_to_driver=False)
store = Store(uri)
client = spawn.registry(store, Home.from_env())
for number in range(10):
    client.taint("small", store.alias("models", "small", "candidate"), f"{module} {loaded_at} {number}")
print(spawn.registry(store, Home.from_env())._handle._actor_id.hex())
"""


def run(driver: str, store: Store, place: str) -> dict[str, list[str]]:
    """What a driver on a cluster of its own says: the first word of each line, and the rest of the lines with it."""
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": str(ROOT)}
    folder = f"/tmp/pr{place}{os.getpid()}"  # Ray's sockets need a short path
    command = [sys.executable, "-c", PRELUDE + driver, store.uri, folder, WRITER]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, rest = line.partition(" ")
        said.setdefault(name, []).append(rest)
    return said


def test_the_registry_actor(home: Path, tmp_path: Path) -> None:
    store = Store(str(home / "store"))
    log = RunLog(store, "pretrain-1", "pretrain", {"hidden": 160})
    log.log(1, train_loss=1.0)
    log.finish("finished")
    said = run(DRIVER, store, "a")
    assert said["error"] == ["BadInputError", "PolicyRefusedError"], "errors arrive as what they are"
    assert said["mode"] == ["0o600"]
    assert len(json.loads(said["names"][0])) == 1
    assert (said["restarted"], said["replaced"]) == (["True"], ["True"])
    one, two = (publish(store, "small", body).version for body in ("one", "two"))
    assert [(e.event, e.version) for e in Registry(store).history("small")] == [
        ("registered", one), ("candidate", one), ("gate_passed", one), ("promoted", one),
        ("registered", two), ("candidate", two), ("gate_refused", two),
    ]  # fmt: skip


def test_new_code_waits_for_the_write_in_progress_and_drivers_agree(home: Path) -> None:
    store = Store(str(home / "store"))
    said = run(CHANGE, store, "b")
    assert said == {
        "waits": ["True"], "finished": ["True"], "moved": ["True"],
        "drivers": ["[0, 0, 0, 0]"], "agree": ["True"], "left": ["True"], "stays": ["True"],
    }  # fmt: skip
    events = Registry(store).history("small")
    assert [e.event for e in events[:3]] == ["registered", "candidate", "tainted"]
    tainted = [e.reason for e in events if e.event == "tainted"]
    assert len(tainted) == len(set(tainted)) == 1 + 20 + 1, "each write once: those of one code and time are the same"
