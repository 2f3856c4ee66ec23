"""What is said before a run, and what is refused: without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.registry.runs import RunLog
from cluster.cli.main import main
from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from train_jobs.models.shape import Shape
from train_jobs.planning import outset
from train_jobs.planning.dry_run import Node, Speed, dry_run, refuse
from train_jobs.planning.flops import flops_per_token
from train_jobs.planning.sizes import Sizes

GIB = 2**30
SIZES = Sizes.of(Shape.of(SECTION, 512))
SEVEN_B = Sizes(32_000, 4096, 32, 32, 32, 128, 11_008, 4096, tied=False)


def test_tokens_seconds_and_steps_follow_from_the_speed() -> None:
    each = flops_per_token(SIZES, SECTION.context_tokens)
    nodes = [Node(8, 16 * GIB)]
    found = dry_run(SECTION.model_copy(update={"workers": 2, "steps": 0}), SIZES, nodes, Speed(1e11, 0.25, "x"), 60.0)
    assert found["tokens_per_s"] == round(2 * 1e11 * 0.25 / each)
    assert found["mfu"] == 0.25
    assert found["seconds"] == pytest.approx(60.0, rel=0.05)
    assert found["memory_total"] == sum(found["memory_per_rank"].values())
    assert found["memory_available"] == 8 * GIB
    by_steps = dry_run(SECTION.model_copy(update={"steps": 7}), SIZES, nodes, Speed(1e11, 0.25, "x"), 60.0)
    assert (by_steps["steps"], by_steps["tokens"]) == (7, 7 * SECTION.batch_tokens)


def test_what_does_not_fit_is_refused_with_the_part_and_the_remedy() -> None:
    section = SECTION.model_copy(update={"workers": 8, "context_tokens": 4096, "batch_tokens": 32_768})
    refuse(section, SEVEN_B, [Node(8, 400 * GIB)] * 8)
    with pytest.raises(EnvironmentFaultError, match=r"6,738,415,616-parameter .*optimizer.*What helps") as refused:
        refuse(section, SEVEN_B, [Node(8, 64 * GIB)] * 8)
    assert refused.value.extras["needed"] > 64 * GIB == refused.value.extras["available"]
    with pytest.raises(EnvironmentFaultError):
        refuse(section, SEVEN_B, [Node(64, 400 * GIB)])  # eight share it
    refuse(section, SEVEN_B, [Node(8, 0)])  # nothing is known, nothing is claimed


def test_a_node_as_ray_describes_it() -> None:
    node = Node.of({"CPU": 32.0, "memory": 5e11, "GPU": 8.0, "accelerator_type:H100": 1.0, "node:10.0.0.1": 1.0})
    assert (node.cpus, node.gpus, node.gpu, node.gpu_memory) == (32.0, 8.0, "H100", 80e9)


def test_the_verb_says_it_all_and_starts_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outset, "measured_peak", lambda threads: 1e11)
    words = ["train", "pretrain", "--dry-run", "--set", "train.workers=2"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stage"] == "pretrain"
    assert "assumed" in found["speed"]
    assert found["parameters"] == Shape.of(outset.TrainSection(), 4096).parameters

    store = Store(Home(home).store_uri)
    log = RunLog(store, "pretrain-before", "pretrain", {})
    log.log(10, mfu=0.125)
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "MFU 0.12" in shown
    assert "pretrain-before" in shown
    assert "optimizer" in shown
    assert not (home / "run").exists()


def test_the_verb_refuses_with_the_environment_s_exit_code(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    monkeypatch.setattr(outset, "this_machine", lambda: Node(2, GIB))
    big = ["--set", "train.hidden=2048", "--set", "train.layers=24", "--set", "train.mlp=8192"]
    assert main(["train", "model", "--dry-run", *big]) == 5
    assert "does not fit" in capsys.readouterr().err
    assert main(["train", "finetune", "--dry-run"]) == 3, "there is no base yet"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--dataset", "nope"], 3, "nope"),
        (["--dataset", "a=0.7,b=much"], 2, "b=much"),
        (["--dataset", "a", "--max-epochs", "c=2"], 2, "--max-epochs names 'c'"),
    ],
)
def test_a_dry_run_refuses_the_datasets_that_the_run_would_refuse(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert main(["train", "pretrain", "--dry-run", *words]) == code
    assert said in capsys.readouterr().err


def test_what_no_data_sheet_says_is_not_known_rather_than_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outset, "this_machine", lambda: Node(2, 16 * GIB))
    words = ["train", "pretrain", "--dry-run", "--set", "train.gpus=1"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "not known (no GPU is known here)" in shown
    assert "0 steps" not in shown
    assert main([*words, "--set", "train.steps=20"]) == 0
    assert "20 steps, 40,960 tokens, time not known" in capsys.readouterr().out
