"""plinth gaps: what it lists, shows and forgets, with the service down and up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli import gaps as verb
from cluster.cli.main import main
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from serve_apps.gaps.book import Gap, GapBook


def asked(home: Path, question: str, version: str = "v1") -> None:
    gap = Gap(
        "2026-01-02",
        question,
        "low_support",
        ("sabbatical",),
        "leave.md",
        "docs/leave.md",
        "people team",
        version,
        "a1",
    )
    GapBook.of(Home(home)).add(gap)


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, object]]:
    assert main(["gaps", "list", "--json", *options]) == ExitCode.DONE
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["gaps"]
    return found


def test_without_questions_there_are_no_gaps(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == []
    assert main(["gaps", "clear", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == {"removed": 0}


def test_a_gap_names_who_should_answer_and_what_answers_it_now(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(home, "Is there a sabbatical?")
    asked(home, "Where is the car park?", "v2")
    monkeypatch.setattr(verb, "_live", lambda base_url: {})
    assert {gap["answered_by"] for gap in listed(capsys)} == {""}
    monkeypatch.setattr(verb, "_live", lambda base_url: {"": "v2"})
    monkeypatch.setattr(verb, "_answers", lambda base_url, question, collection: "sabbatical" in question)
    by = {gap["question"]: (gap["owner"], gap["answered_by"]) for gap in listed(capsys)}
    assert by == {"Is there a sabbatical?": ("people team", "v2"), "Where is the car park?": ("people team", "")}
    assert [gap["question"] for gap in listed(capsys, "--open")] == ["Where is the car park?"]
    assert main(["gaps", "clear", "--answered", "--json"]) == ExitCode.DONE
    assert [gap.question for gap in GapBook.of(Home(home)).read()] == ["Where is the car park?"]


def test_one_gap_is_shown_and_forgotten_by_its_id(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_live", lambda base_url: {})
    asked(home, "Is there a sabbatical?")
    (gap,) = listed(capsys)
    assert main(["gaps", "show", str(gap["id"])]) == ExitCode.DONE
    shown = capsys.readouterr()
    assert "people team" in shown.out + shown.err
    assert main(["gaps", "show", "nothing"]) == ExitCode.BAD_INPUT
    assert main(["gaps", "clear", str(gap["id"])]) == ExitCode.DONE
    assert GapBook.of(Home(home)).read() == []
