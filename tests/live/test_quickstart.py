"""plinth quickstart killed or interrupted at any stage: the next run goes on from there; down leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.local_head import recorded
from cluster.processes import alive, free_ports
from tests.live.conftest import eventually, settings_for

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1200)]

WORDS = ("anchor", "beacon", "cabin", "deck", "engine", "fender", "galley", "halyard", "island", "jetty", "keel",
         "ladder", "mast", "navigation", "oar")  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, list[str], dict[str, str]]]:
    """PLINTH_HOME, the quickstart command over a corpus of 1,500 different documents, its environment."""
    source = tmp_path / "docs"
    source.mkdir()
    for number in range(1500):
        picked = [WORDS[(number * k + k) % len(WORDS)] for k in range(1, 12)]
        facts = " ".join(f"The {word} number {number * 7 + i} is checked {w} days." for i, (word, w) in
                         enumerate(zip(picked, range(2, 40), strict=False)))  # fmt: skip
        (source / f"{number:04}.md").write_text(f"# Part {number}\n\n{facts}\n")
    home = tmp_path / "home"
    home.mkdir()
    environ = {**os.environ, "PLINTH_HOME": str(home)}
    environ.pop("PLINTH_STORE", None)
    command = [sys.executable, "-m", "cluster.cli.main", "quickstart", "--source", str(source), "--json"]
    yield home, [*command, *settings_for(free_ports(3))], environ
    instance = recorded(Home(home))
    subprocess.run([*command[:3], "down"], env=environ, check=True, timeout=120, capture_output=True)
    assert instance is None or instance.processes() == []


def staged(home: Path, pattern: str, count: int) -> bool:
    return len(list((home / "store" / "staging").glob(pattern))) >= count


STAGES: dict[str, Callable[[Path], bool]] = {
    "while Ray starts": lambda home: (instance := recorded(Home(home))) is not None and bool(instance.processes()),
    "in the corpus": lambda home: staged(home, "*/*", 1),
    "in the index": lambda home: staged(home, "*-blocks/*", 3),
}


TRAINING = ["--set", "train.examples=400", "--set", "train.checkpoint_s=2", "--set", "gate.questions=50",
            "--set", "gate.unanswerable=25", "--set", "train.min_steps=0", "--train-minutes", "0.8"]  # fmt: skip


def trained(home: Path, run: str, state: str) -> bool:
    """Whether a training run has this state and, while it runs, a whole checkpoint to go on from."""
    for path in (home / "store" / "training").glob(f"{run}-*/run.json"):
        checkpoints = (home / "store" / "staging").glob("*/checkpoints/*/manifest.json")
        if json.loads(path.read_text())["state"] == state and (state != "running" or any(checkpoints)):
            return True
    return False


IN_CI = "in the index"


@pytest.mark.parametrize("stage", [pytest.param(s, marks=[pytest.mark.ci] if s == IN_CI else []) for s in STAGES])
def test_kill_9_and_again(stage: str, place: tuple[Path, list[str], dict[str, str]]) -> None:
    home, command, environ = place
    command = [*command, "--train-minutes", "0"]
    first = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home)
    eventually(lambda: STAGES[stage](home) or not alive(first.pid), 200, stage)
    first.kill()
    out, err = first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL, (out, err)
    again = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=400, check=False, cwd=home)
    assert again.returncode == 0, again.stdout + again.stderr
    done = json.loads(again.stdout)
    store = Store(str(home / "store"))
    for kind, name in (("datasets", "docs"), ("indexes", "main")):
        versions = store.versions(kind, name)
        assert len(versions) == 1, "the interrupted run left no second version"
        store.verify(versions[0])
    assert done["answers"][-1]["plinth"]["grounded"] is False
    assert any(answer["plinth"]["grounded"] for answer in done["answers"])


@pytest.mark.parametrize("run", ["pretrain", "finetune"])
def test_kill_9_while_training_and_again(run: str, place: tuple[Path, list[str], dict[str, str]]) -> None:
    home, command, environ = place
    command = [*command, *TRAINING]
    first = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home)
    eventually(lambda: trained(home, run, "running") or not alive(first.pid), 400, f"a checkpoint of {run}")
    first.kill()
    out, err = first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL, (out, err)
    store = Store(str(home / "store"))
    assert store.names("models") == [], "nothing half made is registered"

    again = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=500, check=False, cwd=home)
    assert again.returncode == 0, again.stdout + again.stderr
    done = json.loads(again.stdout)
    attempts = [json.loads(path.read_text()) for path in (home / "store" / "training").glob(f"{run}-*/run.json")]
    assert [(one["state"], one["attempts"]) for one in attempts] == [("finished", 2)], "it went on, not anew"
    key = {"authorization": f"Bearer {Home(home).api_key()}"}
    served = httpx.get(f"{done['base_url']}/v1/models", headers=key, timeout=10, trust_env=False).json()["data"]
    small = next(card for card in served if card["id"] == "small")
    shown = {"kind": "chat", "version": done["model"]["version"], "auto": done["model"]["gate"]["passed"]}
    assert small["plinth"] == shown
    body = {"model": "small", "messages": [{"role": "user", "content": "How often is the anchor checked?"}]}
    url = f"{done['base_url']}/v1/chat/completions"
    said = httpx.post(url, json=body, headers=key, timeout=60, trust_env=False).json()
    assert (said["plinth"]["tier"], said["plinth"]["model_version"]) == ("small", done["model"]["version"])

    third = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False, cwd=home)
    assert third.returncode == 0, third.stdout + third.stderr
    reused = json.loads(third.stdout)
    assert reused["model"]["version"] == done["model"]["version"]
    assert sum(reused["seconds"].values()) < 40


def test_ctrl_c_is_exit_130_and_the_next_run_goes_on(place: tuple[Path, list[str], dict[str, str]]) -> None:
    home, command, environ = place
    command = [*command, "--train-minutes", "0"]
    first = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home)
    eventually(lambda: STAGES["in the index"](home) or not alive(first.pid), 200, "the index stage")
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 130
    assert json.loads(out)["error"]["kind"] == "interrupted"
    again = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=400, check=False, cwd=home)
    assert again.returncode == 0, again.stdout + again.stderr
