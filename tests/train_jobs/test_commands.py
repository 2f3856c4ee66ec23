"""The jobs of training: one table for the command line and for Ray jobs, and exit codes that say what the gate said."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from actors.registry import audits
from cluster.cli.main import main
from cluster.core import progress as progress_of_jobs
from cluster.core.config import PlinthConfig
from cluster.core.entry import add_common
from cluster.core.errors import BadInputError, ExitCode, TooSlowError
from cluster.core.job_verbs import ASKED_FROM, JobVerb, always_done, main_of, refused_if_not_passed
from cluster.core.presets import laptop
from cluster.core.progress import Steps
from cluster.core.records import Manifest
from cluster.core.storage import Store
from train_jobs import build_model
from train_jobs.commands import JOBS, find_corpus

REPORT = {
    "answerable": {"n": 400, "abstained": 0.1}, "unanswerable": {"n": 200, "abstained": 0.9},
    "difference": {"low": 0.05},
}  # fmt: skip


@pytest.fixture
def store(home: Any, tmp_path: Path) -> Store:
    del home
    return Store(str(tmp_path / "store"))


def publish(store: Store, kind: str, name: str, counts: dict[str, Any] | None = None, **inputs: str) -> Manifest:
    folder = store.staging(f"{kind}-{name}")
    store.write(f"{folder}/body.json", json.dumps([kind, name, inputs, counts]).encode())
    return store.publish(kind, name, folder, run_key=f"{kind}-{name}-{counts}", inputs=inputs, counts=counts or {})


def test_the_whole_life_and_each_of_its_stages_is_a_job() -> None:
    names = "tokenizer base pretrain examples finetune gate model plan "
    names += "chat grounded preference distill embedder classifier reader router safety masked document-encoder "
    names += "image-text adapt"
    assert [job.name for job in JOBS] == names.split()
    for job in JOBS:
        parser = argparse.ArgumentParser()
        job.add_arguments(parser)
        add_common(parser)  # no option of a job takes the name of a common one
        if job.name == "adapt":  # what it makes is named by its collection
            continue
        assert parser.parse_args(["--name", "tiny", *(["there"] if job.name == "base" else [])]).name == "tiny"


def test_the_module_runs_a_job_and_exits_as_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    made = publish(store, "gates", "small", {"passed": False, "abstains": 0.6})
    job = JobVerb("gate", "judge", JOBS[5].add_arguments, lambda args, progress: made, code=refused_if_not_passed)
    monkeypatch.setattr(sys, "argv", ["train_jobs", "gate", "--model", "small"])
    assert main_of("train_jobs", "", [job]) == ExitCode.REFUSED
    assert json.loads(capsys.readouterr().out)["counts"] == {"passed": False, "abstains": 0.6}


def test_a_submitted_job_reads_the_files_of_who_submitted_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Store, tmp_path: Path
) -> None:
    """Ray starts it in a copy of the checkout: `--data talks.jsonl` is none of that folder's."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "talks.jsonl").write_text("{}")
    made, read = publish(store, "checkpoints", "small"), []

    def run(args: argparse.Namespace, progress: Any) -> Manifest:
        read.append(Path(args.data).read_text())
        return made

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ASKED_FROM, str(tmp_path / "there"))
    monkeypatch.setattr(sys, "argv", ["train_jobs", "chat", "--data", "talks.jsonl"])
    job = JobVerb("chat", "learn", lambda parser: parser.add_argument("--data"), run)  # type: ignore[arg-type]
    assert main_of("train_jobs", "", [job]) == ExitCode.DONE
    assert read == ["{}"]
    monkeypatch.setenv(ASKED_FROM, str(tmp_path / "gone"))
    assert main_of("train_jobs", "", [job]) == ExitCode.DONE


@pytest.mark.parametrize("as_json", [False, True])
def test_a_followed_job_says_how_far_it_is_and_one_that_answers_in_json_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Store, as_json: bool
) -> None:
    """Who submits a job to Ray sees its stdout and stderr as one: nothing may stand beside the JSON asked for."""
    made = publish(store, "checkpoints", "small")
    written = threading.Event()
    line = Steps.line

    def seen(self: Steps, *given: Any) -> str:
        said = line(self, *given)
        if "7 of 40" in said:  # on a busy machine the first line comes before the first step
            written.set()
        return said

    def run(args: argparse.Namespace, progress: Any) -> Manifest:
        del args
        progress.stage("pretrain", 40, "steps")
        progress.advance(7)
        progress.counts(loss=2.5)
        assert as_json or written.wait(20), "nobody was told"
        return made

    monkeypatch.setattr(Steps, "line", seen)
    monkeypatch.setattr(progress_of_jobs, "FIRST_TICK_S", 0.01)
    monkeypatch.setattr(sys, "argv", ["train_jobs", "pretrain", *(["--json"] if as_json else [])])
    assert main_of("train_jobs", "", [JobVerb("pretrain", "learn", lambda parser: None, run)]) == ExitCode.DONE
    said = capsys.readouterr()
    assert json.loads(said.out)["version"] == made.version
    assert ("pretrain: 0 s so far, 7 of 40 steps, " in said.err) is not as_json
    assert as_json or "loss 2.5" in said.err


def test_exit_codes() -> None:
    codes = {job.name: job.code for job in JOBS}
    judging = {name for name, code in codes.items() if code is refused_if_not_passed}
    assert judging == {"adapt", "gate", "grounded", "model", "router"}
    assert codes["tokenizer"] is always_done


@pytest.mark.parametrize(("abstained", "code"), [(0.9, ExitCode.DONE), (0.5, ExitCode.REFUSED)])
def test_what_the_gate_decides_is_counted_in_its_report(store: Store, abstained: float, code: ExitCode) -> None:
    model = publish(store, "models", "small")
    report = {**REPORT, "unanswerable": {"n": 200, "abstained": abstained}}
    registry = Recorder()
    built = build_model.judge(laptop(), store, model, "notes@1", report, registry)  # type: ignore[arg-type]
    assert refused_if_not_passed(built.judged) == code
    assert built.judged.counts["abstains"] == abstained
    assert built.judged.inputs == {"model": f"small@{model.version}", "index": "notes@1"}
    assert registry.acted == ["promote" if code == ExitCode.DONE else "refuse"]


@pytest.mark.parametrize("audited", ["models", "checkpoints"])
def test_the_gate_reads_what_an_audit_found(store: Store, audited: str) -> None:
    """Also where the checkpoint was audited that the model was published from."""
    config = laptop()
    config = config.model_copy(update={"gate": config.gate.model_copy(update={"max_verbatim": 0.1})})
    checkpoint = publish(store, "checkpoints", "heart")
    model = publish(store, "models", "small", checkpoint=f"heart@{checkpoint.version}")

    def judged() -> Any:
        return build_model.judge(config, store, model, "notes@1", REPORT, Recorder()).gate  # type: ignore[arg-type]

    assert not judged().passed
    assert "plinth audit memorization" in judged().reason
    owner = model if audited == "models" else checkpoint
    for rate, passed in ((0.4, False), (0.05, True)):
        counts = {"verbatim_train": rate}
        audits.record(store, owner, publish(store, "audits", owner.name, counts))
        assert judged().passed is passed


class Recorder:
    """Takes the place of the registry actor and notes what it is asked for."""

    def __init__(self) -> None:
        self.acted: list[str] = []

    def promote(self, *given: Any) -> None:
        del given
        self.acted.append("promote")

    def refuse(self, *given: Any) -> None:
        del given
        self.acted.append("refuse")


def test_a_base_that_was_slow_stops_before_examples_are_made() -> None:
    section = laptop().train
    slow = Manifest.from_dict({**_manifest(), "counts": {"seconds_per_step": 5.0}})
    with pytest.raises(TooSlowError, match=r"makes 29 steps.*needs 200; give it \d+ minutes"):
        build_model._check_steps(slow, 78.0, section)
    build_model._check_steps(slow, 78.0, section.model_copy(update={"steps": 50}))
    build_model._check_steps(slow, 780.0, section)
    build_model._check_steps(Manifest.from_dict(_manifest()), 78.0, section)  # made before steps were measured


def test_an_index_of_another_dataset_is_refused(store: Store) -> None:
    notes, other = publish(store, "datasets", "notes"), publish(store, "datasets", "other")
    index = publish(store, "indexes", "main", dataset=f"notes@{notes.version}")
    store.move_alias("indexes", "main", "live", index.version, why="test")
    store.move_alias("datasets", "notes", "latest", notes.version, why="test")
    asked = argparse.Namespace(dataset="", index="main")
    assert find_corpus(PlinthConfig(), store, asked) == (notes, index)
    asked.dataset = f"other@{other.version}"
    with pytest.raises(BadInputError, match="was built from notes@"):
        find_corpus(PlinthConfig(), store, asked)
    asked.index = "none"
    with pytest.raises(BadInputError, match="no collection 'none'"):
        find_corpus(PlinthConfig(), store, asked)


def _manifest() -> dict[str, Any]:
    return {"kind": "checkpoints", "name": "small-base", "version": "1", "run_key": "k", "created_at": "", "files": []}


def test_a_data_file_that_is_not_there_is_said_before_the_base_and_the_cluster_are_looked_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = home / "talks.jsonl"
    for verb in ("chat", "preference", "embedder"):
        assert main(["train", verb, "--data", str(missing)]) == 3
        assert f"cannot read {missing}: No such file" in capsys.readouterr().err
