"""Training runs in the store: written while they run, resumed, cancelled, and found interrupted when killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from actors.registry.runs import NewestPoint, RunLog, cancel, list_runs, read_metrics, read_run
from cluster.core.errors import BadInputError, UsageError
from cluster.core.storage import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def test_a_run_is_seen_while_it_runs_and_after(store: Store) -> None:
    log = RunLog(store, "pretrain-1", "pretrain", {"hidden": 160})
    log.log(10, train_loss=3.5, tokens=100)
    log.log(10, held_out_loss=3.75)
    log.log(20, train_loss=float("nan"))
    assert read_run(store, "pretrain-1").state == "running"
    log.finish("finished")
    run = read_run(store, "pretrain")
    assert (run.state, run.params, run.kind, run.error) == ("finished", {"hidden": 160}, "pretrain", "")
    assert run.ended_at >= run.started_at
    rows = read_metrics(store, "pretrain-1")
    assert [row["step"] for row in rows] == [10, 20]
    assert (rows[0]["train_loss"], rows[0]["held_out_loss"], rows[1]["train_loss"]) == (3.5, 3.75, None)
    assert [r.id for r in list_runs(store)] == ["pretrain-1"]


def test_who_follows_a_run_sees_what_came_since_and_reads_no_more(store: Store) -> None:
    watch = NewestPoint(store, "a")
    assert watch.look() is None
    log = RunLog(store, "a", "pretrain", {})
    for step in (*range(1, 400), 350, 351):  # it went back to a checkpoint
        log.log(step, train_loss=step / 10)
        if step % 50 == 0:
            log.log(step, held_out_loss=1.0)
            if not store.local:
                log._flush()
            newest = watch.look()
            assert newest is not None
            assert newest == [row for row in read_metrics(store, "a") if row["step"] == step][-1]
            assert (newest["train_loss"], newest["held_out_loss"]) == (step / 10, 1.0)
    path = store.path("training", "a", "metrics.jsonl")
    assert watch._offset > 0.9 * store.fs.size(path)
    if store.local:  # a line that is half written when it is looked at
        with open(path, "ab") as file:
            file.write(b'\n{"step": 352, "train')
            file.flush()
            assert (watch.look() or {})["step"] == 351
            file.write(b'_loss": 2.0, "at": "now"}')
        assert (watch.look() or {})["step"] == 352


def test_cancel_is_seen_once_and_does_not_outlive_its_run(store: Store) -> None:
    log = RunLog(store, "a", "finetune", {})
    assert not log.cancelled()
    cancel(store, "a", actor="ada")
    assert RunLog(store, "a", "finetune", {}).cancelled(), "a restarted worker still has to stop"
    log = RunLog(store, "a", "finetune", {})
    assert log.cancelled()
    log.finish("cancelled")
    with pytest.raises(UsageError, match="it is cancelled"):
        cancel(store, "a")
    assert not RunLog(store, "a", "finetune", {}).cancelled(), "started anew, it runs"


def test_a_resumed_run_supersedes_the_steps_after_its_checkpoint(store: Store) -> None:
    first = RunLog(store, "a", "pretrain", {})
    for step in (10, 20, 30):
        first.log(step, train_loss=step / 10)
    if not store.local:
        first.finish("failed", "lost")
    second = RunLog(store, "a", "pretrain", {})
    second.log(20, train_loss=7.0)
    second.finish("finished")
    assert [(r["step"], r["train_loss"]) for r in read_metrics(store, "a")] == [(10, 1.0), (20, 7.0)]
    run = read_run(store, "a")
    assert run.attempts == 2


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    RunLog(store, "a", "pretrain", {}).log(1, train_loss=1.0)
    path = tmp_path / "training" / "a" / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'\n{"step": 2, "train_lo')
    RunLog(store, "a", "pretrain", {}).log(3, train_loss=3.0)
    assert [row["step"] for row in read_metrics(store, "a")] == [1, 3]


def test_a_killed_process_leaves_an_interrupted_run(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom actors.registry.runs import RunLog\nfrom cluster.core.storage import Store\n"
        "RunLog(Store(sys.argv[1]), 'killed', 'pretrain', {}).log(1, train_loss=2.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, timeout=60)
    assert done.returncode == -9
    store = Store(str(tmp_path))
    assert read_run(store, "killed").state == "interrupted"
    assert len(read_metrics(store, "killed")) == 1
    with pytest.raises(UsageError, match="interrupted"):
        cancel(store, "killed")


def test_a_reused_pid_is_not_the_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    RunLog(store, "a", "pretrain", {})
    path = tmp_path / "training" / "a" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": os.getpid(), "process_start": "other:1"}))
    assert read_run(store, "a").state == "interrupted"


def test_names_that_are_not_runs(store: Store) -> None:
    with pytest.raises(BadInputError, match="no run 'nothing'"):
        read_run(store, "nothing")
    with pytest.raises(UsageError):
        RunLog(store, "../x", "pretrain", {})
    for name in ("ab1", "ab2"):
        RunLog(store, name, "pretrain", {})
    with pytest.raises(BadInputError, match="several"):
        read_run(store, "ab")
