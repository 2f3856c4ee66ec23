"""Training with Ray Train on a Ray of its own: it learns, workers agree whatever their number, kills cost little."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.registry.runs import read_metrics
from cluster.core.storage import Store
from tests.conftest import needs
from tests.live.private_cluster import NAMESPACES
from tests.train_jobs.driver import STEPS

ROOT = Path(__file__).resolve().parents[2]
# A network, mounts and processes of one's own: what the driver started ends with it, however it ends.
APART = (*NAMESPACES, *(() if os.getuid() == 0 else ("--map-root-user",)))
OFTEN = ("--checkpoint-s", "0.05")
pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Driver:
    """One driver process over one store."""

    store: Store
    process: subprocess.Popen[str]

    def result(self, timeout: float = 400) -> dict[str, str]:
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, f"{out}\n{err}"
        return json.loads(out.splitlines()[-1])  # a dead worker makes Ray print before it

    def checkpoints(self) -> list[str]:
        return sorted(self.store.fs.glob(self.store.path("staging", "*", "checkpoints", "*", "manifest.json")))

    def wait_for_checkpoint(self, after: list[str], timeout: float = 240) -> list[str]:
        deadline = time.monotonic() + timeout
        while (found := self.checkpoints()) == after or not found:
            assert self.process.poll() is None, f"ended early: {self.process.communicate()}"
            assert time.monotonic() < deadline, "no checkpoint was written in time"
            time.sleep(0.02)
        return found

    def workers(self) -> list[int]:
        """Process ids of its training workers: Ray names them in their command lines."""
        temporary = {p for p in _descendants(self.process.pid)}
        return [p for p in temporary if "RayTrainWorker" in _command(p)]

    def raylets(self) -> list[int]:
        """Process ids of its Ray's nodes, the oldest (the head's) first."""
        return sorted(p for p in _descendants(self.process.pid) if _command(p).split(" ")[0].endswith("/raylet"))

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the log of training says of one kind of event so far."""
        path = Path(self.store.root).parent / "home" / "logs" / "train.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["event"] == name]

    def wait_for(self, what: str, condition: Callable[[], Any], timeout: float = 400) -> Any:
        """Poll until ``condition`` gives something true, while the driver runs; its value is returned."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert self.process.poll() is None, f"ended before {what}: {self.process.communicate()}"
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come in {timeout:.0f} s")
            time.sleep(0.05)
        return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *arguments: str, within: tuple[str, ...] = ()) -> Driver:
        driver = start_driver(folder, *arguments, within=within)
        started.append(driver.process)
        return driver

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def start_driver(folder: Path, *arguments: str, within: tuple[str, ...] = ()) -> Driver:
    folder.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "PLINTH_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    environ.pop("PLINTH_STORE", None)
    command = [*within, sys.executable, "-m", "tests.train_jobs.driver", str(folder / "store"), *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    return Driver(Store(str(folder / "store")), process)


@dataclass
class Made:
    store: Store
    versions: dict[str, str]
    listeners: str

    def folder(self, job: str) -> Path:
        name = {"pretrain": "tiny-base", "finetune": "tiny"}[job]
        return Path(self.store.artefact(self.store.manifest("checkpoints", name, self.versions[job])))

    def rows(self, job: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder(job) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What two workers make of the small corpus: the reference of this module."""
    folder = tmp_path_factory.mktemp("two")
    listeners = folder / "listeners.txt"
    driver = start_driver(folder, "pretrain", "finetune", "--workers", "2", "--before-end", f"ss -Hltnp > {listeners}")
    return Made(driver.store, driver.result(), listeners.read_text())


def weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.ci
def test_held_out_loss_falls_and_completions_are_learnt(two_workers: Made) -> None:
    rows = two_workers.rows("finetune")
    assert [row["stage"] for row in rows] == sorted((row["stage"] for row in rows), reverse=True)  # both, in order
    for stage, least in (("pretrain", 1.5), ("finetune", 0.5)):
        losses = [r["held_out_loss"] for r in rows if r["stage"] == stage and r["held_out_loss"] is not None]
        assert losses[-1] < losses[0] - least, stage
    accuracy = [r["held_out_accuracy"] for r in rows if r.get("held_out_accuracy") is not None]
    assert accuracy[0] < 0.1 < 0.3 < accuracy[-1]


@pytest.mark.ci
def test_training_json_says_what_was_done_and_from_what(two_workers: Made) -> None:
    said = json.loads((two_workers.folder("finetune") / "training.json").read_text())
    assert said["steps"] == STEPS
    assert said["workers"] == 2
    assert said["tokens"] > 0
    assert said["seconds"] > 0
    assert set(said["parents"]) == {"base", "examples", "dataset", "tokenizer"}


@pytest.mark.ci
def test_the_checkpoint_loads_in_transformers_without_this_project(two_workers: Made, tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer('<|bos|><|question|> pump<|passage|><|s0|> relay<|s1|> pump<|s2|> hose<|answer|>',"
        " return_tensors='pt', add_special_tokens=False).input_ids\n"
        "out = model.generate(ids, max_new_tokens=2, do_sample=False)[0, ids.shape[1]:]\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('train_jobs', 'cluster', 'ray')]\n"
        "print(type(model).__name__, tokenizer.decode(out), tokenizer.bos_token_id, tokenizer.eos_token,"
        " len(tokenizer))"
    )
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(two_workers.folder("finetune"))], cwd=tmp_path, env=environ,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    architecture, said, bos, eos, size = done.stdout.split()
    assert (architecture, bos, eos) == ("LlamaForCausalLM", "1", "<|eos|>")
    assert re.fullmatch(r"<\|s[012]\|><\|eos\|>", said)
    config = json.loads((two_workers.folder("finetune") / "config.json").read_text())
    assert int(size) == config["vocab_size"]


@pytest.mark.ci
def test_nothing_unfinished_is_left_in_the_store(two_workers: Made) -> None:
    store = two_workers.store
    assert [p for p in store.fs.find(store.path("staging")) if "/dataset-" not in p] == []
    for manifest in store.versions("checkpoints", "tiny"):
        store.verify(manifest)
        assert not [f.path for f in manifest.files if f.path.endswith((".pt", ".bin", ".pkl", ".tmp"))]


@pytest.mark.ci
def test_workers_listen_on_loopback_only(two_workers: Made) -> None:
    mine = [line for line in two_workers.listeners.splitlines() if "RayTrainW" in line]  # ss shows 15 characters
    assert mine, two_workers.listeners
    addresses = [line.split()[3].rpartition(":")[0] for line in mine]
    assert {a for a in addresses if not a.startswith("127.") and a not in ("[::1]", "[::ffff:127.0.0.1]")} == set()


def test_one_worker_makes_the_same_weights_as_two(two_workers: Made, drive: Any, tmp_path: Path) -> None:
    """The same global batches: only the order of additions differs."""
    driver = drive(tmp_path / "one", "pretrain", "--workers", "1", "--worker-cpus", "1")
    alone = Made(driver.store, driver.result(), "")
    mine, theirs = weights(alone.folder("pretrain")), weights(two_workers.folder("pretrain"))
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        scale = np.abs(theirs[name]).mean()
        assert np.abs(array - theirs[name]).mean() < 0.02 * scale, name


@pytest.mark.ci
def test_a_killed_worker_costs_the_steps_since_its_checkpoint(two_workers: Made, drive: Any, tmp_path: Path) -> None:
    driver = drive(tmp_path, "pretrain", *OFTEN)
    driver.wait_for_checkpoint([])
    victims = driver.workers()
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    made = Made(driver.store, driver.result(), "")
    assert [event["step"] > 0 for event in driver.events("resumed")] == [True, True]
    (failed,) = driver.events("workers_failed")
    assert "its process was killed or crashed, nothing says by what" in failed["causes"].values()
    assert (made.folder("pretrain") / "model.safetensors").read_bytes() == (
        two_workers.folder("pretrain") / "model.safetensors"
    ).read_bytes()


def test_a_terminated_worker_saves_before_it_goes(two_workers: Made, drive: Any, tmp_path: Path) -> None:
    """SIGTERM, as a node gets it that is taken away: without it this run would write no checkpoint before its end."""
    driver = drive(tmp_path, "pretrain", "--checkpoint-s", "1000")
    (run,) = driver.wait_for("the run", lambda: driver.store.fs.glob(driver.store.path("training", "*")))
    driver.wait_for("a step", lambda: read_metrics(driver.store, Path(run).name)[1:])
    os.kill(driver.workers()[1], signal.SIGTERM)
    made = Made(driver.store, driver.result(), "")
    resumed = [event["step"] for event in driver.events("resumed")]
    assert len(resumed) == 2
    assert 0 < resumed[0] == resumed[1] < STEPS
    assert (made.folder("pretrain") / "model.safetensors").read_bytes() == (
        two_workers.folder("pretrain") / "model.safetensors"
    ).read_bytes()


def test_a_terminated_and_a_killed_driver_go_on_where_they_were(two_workers: Made, drive: Any, tmp_path: Path) -> None:
    first = drive(tmp_path, "pretrain", *OFTEN)
    before = first.wait_for_checkpoint([])
    first.process.send_signal(signal.SIGTERM)
    _, said = first.process.communicate(timeout=120)
    assert first.process.returncode == 130, said
    stopped = first.checkpoints()
    assert stopped[-1] >= before[-1]
    second = drive(tmp_path, "pretrain", *OFTEN)
    second.wait_for_checkpoint(stopped)
    second.process.kill()
    second.process.wait()
    assert second.store.names("checkpoints") == []  # nothing half made is published
    third = drive(tmp_path, "pretrain", *OFTEN)
    made = Made(third.store, third.result(), "")
    assert (made.folder("pretrain") / "model.safetensors").read_bytes() == (
        two_workers.folder("pretrain") / "model.safetensors"
    ).read_bytes()


def test_a_worker_that_stops_is_noticed_by_the_others(two_workers: Made, drive: Any, tmp_path: Path) -> None:
    """A stopped process cannot watch itself. Its peer waits in a collective, says where, and ends the group."""
    driver = drive(tmp_path, "pretrain", *OFTEN, "--set", "hang_s=5", "--set", "hang_factor=2")
    driver.wait_for_checkpoint([])
    driver.wait_for("a median of steps", lambda: len(driver.events("checkpoint_saved")) > 4)
    stopped, watching = driver.workers()
    while not driver.events("hung"):  # a peer that waits in a checkpoint allows it longer than this test has
        os.kill(stopped, signal.SIGSTOP)
        with contextlib.suppress(TimeoutError):
            driver.wait_for("the watchdog", lambda: driver.events("hung"), timeout=20)
            break
        os.kill(stopped, signal.SIGCONT)
        saved = len(driver.events("checkpoint_saved"))
        driver.wait_for("the next checkpoint", lambda saved=saved: len(driver.events("checkpoint_saved")) > saved)
    (hung,) = driver.events("hung")
    assert hung["pid"] == watching
    (failed,) = driver.wait_for("the controller", lambda: driver.events("workers_failed"))
    assert list(failed["causes"].values()) == ["its watchdog ended it, because it took no step any more"]
    made = Made(driver.store, driver.result(), "")
    assert "all_reduce" in hung["stack"] or "backward" in hung["stack"] or "broadcast" in hung["stack"]
    (kept,) = driver.store.fs.glob(driver.store.path("training", "*", f"stacks-rank{hung['rank']}.txt"))
    assert "train_jobs/trainer/loop.py" in driver.store.read(kept).decode()
    assert [event["step"] > 0 for event in driver.events("resumed")] == [True, True]
    assert not _command(stopped), "the stopped process is gone as well"
    assert (made.folder("pretrain") / "model.safetensors").read_bytes() == (
        two_workers.folder("pretrain") / "model.safetensors"
    ).read_bytes()


@pytest.mark.ci
def test_a_second_run_finds_the_first(two_workers: Made, drive: Any) -> None:
    """Same inputs, configuration and code: no worker is needed, the same version comes back."""
    folder = Path(two_workers.store.root).parent
    driver = drive(folder, "pretrain", "finetune")
    assert driver.result() == two_workers.versions


@pytest.mark.timeout(1800)
def test_a_group_shrinks_with_a_node_that_dies_and_grows_with_one_that_comes(drive: Any, tmp_path: Path) -> None:
    """Two raylets of one CPU, one to two workers of one CPU: the steps go on where the last checkpoint was."""
    allowed = shutil.which("unshare") and subprocess.run([*APART, "true"], check=False).returncode == 0
    needs(bool(allowed), "the right to make network, process and mount namespaces (unshare)")
    settings = {"workers_min": 1, "resize_s": 2, "steps": 1_000_000, "batch_tokens": 8192, "checkpoint_s": 1}
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    driver = drive(tmp_path, "pretrain", "--worker-cpus", "1", "--nodes", "2", *chosen, within=APART)

    def stepping(workers: int, after: float) -> float:
        """Wait until a group of so many has started and saved something since; when that was seen."""

        def values(name: str, of: str) -> set[Any]:
            return {event[of] for event in driver.events(name) if _seconds(event) > after}

        driver.wait_for(f"a group of {workers}", lambda: values("worker_ready", "workers") == {workers}, 600)
        after = time.time()
        driver.wait_for("its steps", lambda: values("checkpoint_saved", "step"), 600)
        return time.time()

    stepping(2, 0)
    at = time.time()
    os.kill(driver.raylets()[1], signal.SIGKILL)
    shrunk = stepping(1, at)
    print("one more node", file=driver.process.stdin, flush=True)
    stepping(2, shrunk)
    resumed = driver.events("resumed")
    assert len(resumed) >= 3, "the one that was left, and the two that there are again"
    for event in resumed:
        before = [e["step"] for e in driver.events("checkpoint_saved") if _seconds(e) < _seconds(event)]
        assert event["step"] == before[-1] > 0, "it costs the steps since the last checkpoint"


def _seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()
