"""What Ray Train's controller does when workers fail, and what a group of workers waits for: with a Ray of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import EnvironmentFaultError, IntegrityError, TrainingError
from cluster.core.storage import Store
from train_jobs.trainer.outcome import MAX_FAILURES, ORDERS, RUNNING

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.process  # they import ray


@pytest.fixture
def watch(home: Path, tmp_path: Path) -> Any:
    del home
    from train_jobs.distributed.group import FailureWatch

    store = Store(str(tmp_path / "store"))
    run, group = store.staging("run"), store.staging("group")
    store.write(f"{group}/{ORDERS}", json.dumps({"plan": {"run_id": "r1", "folder": run}}).encode())
    store.write(f"{group}/{RUNNING}", b'{"workers": 2}')
    return FailureWatch(store.uri, group, alone=True)


def died(text: str = "connection error code 2. (1) killed by OOM killer due to high memory usage") -> Exception:
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    return WorkerHealthCheckFailedError("A worker health check failed.", failure=RuntimeError(text))


def test_a_group_that_does_not_get_on_is_given_up(watch: Any, home: Path) -> None:
    for _ in range(MAX_FAILURES):
        watch.after_exception(None, {1: died()})
    with pytest.raises(TrainingError, match=r"died 4 times without getting on.*killed or crashed.*last checkpoint"):
        watch.after_exception(None, {1: died()})
    events = [json.loads(line) for line in (home / "logs" / "train.jsonl").read_text().splitlines()]
    assert [event["run"] for event in events] == ["r1"] * (MAX_FAILURES + 1)
    assert not Path(watch.folder, RUNNING).exists(), "nobody runs now"


def test_one_that_gets_on_is_not(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.distributed import group

    store = Store(watch.store)
    for day in range(3 * MAX_FAILURES):
        monkeypatch.setattr(group.time, "monotonic", lambda day=day: day * 86_400.0)
        store.write(f"{store.staging('run')}/checkpoints/{day:08d}/manifest.json", b"{}")
        watch.after_exception(None, {0: died()})


def test_what_trying_again_would_only_raise_again_ends_it_at_once(watch: Any) -> None:
    with pytest.raises(IntegrityError, match="damaged"):
        watch.after_exception(None, {0: RuntimeError("Connection reset by peer"), 1: IntegrityError("damaged")})


def test_the_kernel_s_own_count_says_who_was_out_of_memory(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.distributed import group

    watch.oom_kills = 7
    for seen, why in ((7, "killed or crashed"), (8, r"kernel killed it for want of memory\): lower train.workers or")):
        monkeypatch.setattr(group, "oom_kills", lambda seen=seen: seen)
        watch.failures.seen = [(group.time.monotonic(), "")] * MAX_FAILURES
        with pytest.raises(TrainingError, match=why):
            watch.after_exception(None, {1: died()})


def test_a_hung_worker_is_told_from_a_killed_one(watch: Any, home: Path) -> None:
    Path(watch.folder, "hung-rank1").touch()
    for _ in range(2):
        watch.after_exception(None, {1: died()})
    events = [json.loads(line) for line in (home / "logs" / "train.jsonl").read_text().splitlines()]
    assert [event["causes"]["1"].split(",")[0] for event in events] == [
        "its watchdog ended it", "its process was killed or crashed",
    ]  # fmt: skip


def test_the_start_of_a_group_is_counted_from_the_end_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it failed or is to have another size; the steps that it took are no part of the next one's start."""
    from train_jobs.distributed import group

    clock, began = [100.0], []
    monkeypatch.setattr(group.time, "time", lambda: clock[0])
    monkeypatch.setattr(group.ray, "get", lambda found: found)
    monkeypatch.setattr(group, "_ended", {})

    class One:
        """A group of one worker, which does nothing but note when its start began."""

        def __len__(self) -> int:
            return 1

        def execute_single_async(self, *told: Any) -> None:
            began.append(told[-1].began)

    backend, config = group.GroupBackend(), group.GroupConfig(asked_at=90.0)
    backend.on_start(One(), config)
    clock[0] = 500.0
    backend.on_shutdown(One(), config)
    clock[0] = 520.0
    backend.on_start(One(), config)
    assert began == [90.0, 500.0]


def test_a_group_ends_on_a_full_disk_and_what_went_wrong_is_not_hidden(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from train_jobs.fit import Workers

    del home
    workers = object.__new__(Workers)  # to connect to a cluster is not what is tried
    workers.store = Store(str(tmp_path / "store"))
    workers.folder, workers._number, workers._fitting = workers.store.staging("workers-1"), 0, None
    workers._thread = ThreadPoolExecutor(1)
    workers._order(None)

    def full(path: str, body: bytes) -> None:
        del body
        raise EnvironmentFaultError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(workers.store, "write", full)
    error = TrainingError("the loss is not a number")
    assert workers.__exit__(TrainingError, error, None) is None
    assert not Path(workers.folder).exists(), "without orders the workers end, and nothing is left"


def test_this_kernel_counts() -> None:
    from train_jobs.distributed.group import oom_kills

    assert oom_kills() >= 0


PLACES = """
import sys, time
import ray
from cluster.core.errors import EnvironmentFaultError
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.fit import Workers
from ray.util.placement_group import placement_group

class Seen:
    stages = []
    def stage(self, name, total=None, unit=""):
        self.stages.append(name)

@ray.remote(num_cpus=1)
class Busy:
    def here(self):
        return True

ray.init(num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[1], object_store_memory=100_000_000,
         log_to_driver=False, logging_level="ERROR")
store = Store(sys.argv[2])
for settings in ({"worker_cpus": 4.0}, {"gpus": 1}, {"workers": 3, "worker_cpus": 1.0}, {"node_group": "gpu8"}):
    try:
        Workers(TrainSection(**settings), store)
    except EnvironmentFaultError as error:
        print(error.message.partition(":")[0])
busy = Busy.remote()
ray.get(busy.here.remote())
workers, seen = Workers(TrainSection(workers=2, worker_cpus=1.0), store), Seen()

def until(name):
    deadline = time.monotonic() + 60
    while name not in seen.stages:
        workers._looked_at = 0.0
        workers._look_for_nodes(seen)
        assert time.monotonic() < deadline, seen.stages
        time.sleep(0.05)

until("waits for 2 x 1 CPU; free: 1")
ray.kill(busy)
until("start workers")
group = placement_group([{"CPU": 1.0}] * 2)
ray.get(group.ready())
workers._looked_at = 0.0
workers._look_for_nodes(seen)
print(seen.stages)
"""


@pytest.mark.slow
@pytest.mark.ci
def test_impossible_groups_are_refused_and_a_wait_says_for_what(tmp_path: Path) -> None:
    folder = tempfile.mkdtemp(prefix="ptg", dir="/tmp")  # Ray's socket paths must be short
    environ = {"PLINTH_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin",
               "HOME": str(tmp_path), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0",
               "RAY_worker_niceness": "0"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PLACES, folder, str(tmp_path / "store")], env=environ, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    *refused, stages = done.stdout.splitlines()
    no_node = "and no node there is or may be has that (the most one has"
    assert refused == [
        f"training wants 2 x 4 CPU, {no_node}",
        f"training wants 1 x 1 GPU, {no_node}",
        "training wants 3 x 1 CPU, and all nodes together hold 2 such workers",
        f"training wants 2 x no CPU on nodes of the group gpu8, {no_node}",
    ]
    assert stages == str(["waits for 2 x 1 CPU; free: 1", "start workers"])
