"""The parts of `plinth bench train` that need no cluster, and of --gpu those that a CPU can take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from train_jobs.benchmarks import gpu, rivals
from train_jobs.benchmarks.training import Marks, corpus
from train_jobs.models.shape import Shape

SHAPE = Shape(512, 32, 2, 2, 1, 64, 64)
JOB = rivals.Job(SHAPE, SECTION, steps=2, warm_up=1)


def test_the_corpus_is_one_that_training_reads(tmp_path: Path) -> None:
    from data_jobs.corpus.parquet import read_table

    store = Store(str(tmp_path))
    small, large = corpus(store, "one", 50_000), corpus(store, "ten", 500_000)
    assert 5 < large.counts["kept"] / small.counts["kept"] < 15
    store.verify(large)
    rows = read_table(store.read(f"{store.artefact(small)}/documents-00000.parquet")).to_pylist()
    assert len(rows[0]["text"].split()) == 400


def test_every_loop_does_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "_settle", lambda threads: None)  # this process keeps its priority
    assert JOB.windows().shape == (3, SECTION.batch_tokens // 64, 65)
    assert rivals.bare_loop(JOB, 1) > 0
    with pytest.raises(rivals.AbsentError, match="--litgpt"):
        rivals.litgpt_loop("", JOB, 1)
    with pytest.raises(rivals.AbsentError, match="does not run"):
        rivals.litgpt_loop("/bin/false", JOB, 1)


def test_a_start_is_divided_into_its_stages() -> None:
    marks = Marks()
    marks.stages = [("tokenise", 1.0), ("start workers", 3.0), ("pretrain", 9.0), ("publish", 20.0)]
    assert marks.parts(10.0) == {"before": 1.0, "tokenise": 2.0, "start_workers": 6.0, "pretrain": 1.0}


def test_without_a_gpu_it_says_so(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    del home
    monkeypatch.setattr(gpu, "no_gpu", lambda: "no GPU")
    assert main(["bench", "train", "--gpu"]) == 0
    assert capsys.readouterr().out.strip() == "not run: no GPU"
    assert main(["bench", "train", "--gpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"not_run": "no GPU"}
    assert main(["bench", "train", "--parts", "speeed"]) == 2


def test_the_accelerator_s_parts_run_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SMALL", SHAPE)
    same = gpu.same_losses("cpu")
    assert same["equal"]
    assert len(same["losses"]) == gpu.SAME_STEPS
    fast = gpu.speed(SHAPE, 2, 2, 1e12, "cpu", compiled=False)
    assert fast["last_loss"] < fast["first_loss"]
    assert fast["mfu"] >= 0
    assert gpu.one_step_fsdp2(SHAPE, "cpu")["fell"]
