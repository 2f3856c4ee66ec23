"""How far a stage is, as a log and a terminal see it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cluster.cli import output
from cluster.cli.output import Stages, fold
from cluster.cli.quickstart import COVERS, UNANSWERABLE, goodbye, to_ask, training_seconds
from cluster.core.progress import Steps
from cluster.core.sections.train import TrainSection


def test_a_line_says_count_rate_and_time_left() -> None:
    steps = Steps("embed", 1000, "chunks", began=100.0, done=250, detail="reused 12")
    said = steps.line("build the index", started=90.0, now=110.0)
    assert said == "build the index: embed: 20 s so far, 250 of 1,000 chunks, 25.0 a second, 30 s left, reused 12"


def test_a_line_without_a_count_says_how_long_it_went() -> None:
    assert Steps(began=0.0).line("gate", 0.0, 31.0) == "gate: 31 s so far"
    said = Steps("read", None, "files", 0.0, 5).line("prepare", 0.0, 10.0)
    assert said == "prepare: read: 10 s so far, 5 files, 0.5 a second"


def test_lines_fit_and_no_word_is_cut() -> None:
    version = "small@0123456789abcdef"
    steps = Steps(
        "a stage with a rather long name", 12_345, "documents", 0.0, 67, f"published {version} and more of it"
    )
    lines = fold([(steps.line("evaluate and publish the model", 0.0, 20.0), "")], 80, "  ").plain.split("\n")
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert version in " ".join(lines)


def test_a_finished_stage_says_its_note_in_whole_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = "otel@0123456789abcdef0123456789abcdef"
    monkeypatch.setattr(output.console, "width", 80)
    stages = Stages()
    with stages.run("build the index"):
        stages.note(f"{version} of 8,539 chunks")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("✓ build the index")
    assert second == f"    {version} of 8,539 chunks", "an id that does not fit beside the seconds goes below them"


def test_without_a_terminal_a_stage_that_only_waits_is_not_mute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = threading.Event()
    real = Steps.line

    def line(self: Steps, *given: object) -> str:
        seen.set()
        return real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Steps, "line", line)
    stages = Stages(tick_s=0.01)
    with stages.run("wait"):
        stages.stage("for something", 10, "things")
        stages.advance(3)
        assert seen.wait(10), "no line was printed"
    said = capsys.readouterr().out
    assert "  wait: " in said
    assert "✓ wait" in said
    assert not [thread for thread in threading.enumerate() if thread.name == "progress-tick"]


def test_without_a_terminal_the_first_lines_come_soon_and_say_what_is_awaited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    real = Steps.line

    def kept(self: Steps, *given: object) -> str:
        lines.append(real(self, *given))  # type: ignore[arg-type]
        return lines[-1]

    def until(text: str) -> bool:
        deadline = time.monotonic() + 10
        while not any(text in line for line in lines[-1:]) and time.monotonic() < deadline:
            stages.advance(0)
        return any(text in line for line in lines[-1:])

    monkeypatch.setattr(Steps, "line", kept)
    stages = Stages(first_tick_s=0.001)
    with stages.run("prepare"):
        stages.stage("clean", 10, "files")
        stages.waits("waits for 1 CPU: 0 of 2 free")
        assert until("0 of 10 files, waits for 1 CPU: 0 of 2 free"), lines
        stages.waits("")
        stages.advance(3)
        assert until("3 of 10 files"), lines
        assert "waits" not in lines[-1]
    assert "waits for 1 CPU" in capsys.readouterr().out


def test_quiet_stages_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    stages = Stages(show=False, tick_s=0.001)
    deadline = time.monotonic() + 0.05
    with stages.run("wait"):
        while time.monotonic() < deadline:
            stages.advance()
    stages.skip("train", "no time")
    assert capsys.readouterr().out == ""
    assert stages.skipped == {"train": "no time"}


def test_a_skipped_stage_is_not_ticked_off(capsys: pytest.CaptureFixture[str]) -> None:
    stages = Stages()
    with pytest.raises(ValueError, match="slow"), stages.run("pretrain the model"):
        raise ValueError("slow")
    stages.skip(stages.current, "this machine makes 30 steps of fine-tuning in the time and a model needs 200")
    stages.table()
    said = capsys.readouterr().out
    assert "✓" not in said
    assert said.startswith("- pretrain the model")
    assert said.count("skipped: this machine") == 2
    assert max(map(len, said.splitlines())) <= output.console.width


def test_the_goodbye_fits_eighty_columns() -> None:
    page = f"http://127.0.0.1:18000/#once={'x' * 32}"
    key = Path.home() / ".plinth" / "api_key"
    question = to_ask([f"How do I find the {'most ' * 6}common one?"])
    text = goodbye("http://127.0.0.1:18000", "http://127.0.0.1:18265", ".venv/bin/plinth", page, key, question)
    assert text.count(question) == 3
    assert max(map(len, text.splitlines())) <= 80
    assert ".venv/bin/plinth down" in text


@pytest.mark.parametrize(
    "asked", ['What is said about Bob\'s "log"?', "What is said about $(rm)?", "Why? " * 20, "Wo ist Köln?"]
)
def test_what_a_shell_would_not_take_as_it_stands_is_not_suggested(asked: str) -> None:
    assert to_ask([asked, UNANSWERABLE]) == to_ask([]) == COVERS
    assert to_ask(["How do I copy a file?", asked]) == "How do I copy a file?"


def test_a_slow_machine_gets_as_long_to_train_as_configured() -> None:
    section = TrainSection()
    assert training_seconds(115.0, section) == 175.0
    assert training_seconds(400.0, section) == section.minutes * 60
