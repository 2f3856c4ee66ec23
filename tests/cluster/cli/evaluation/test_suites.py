"""plinth eval run --suite pii|dedup|FILE: tables for people, JSON for machines, errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli.evaluation.suites import FILE, SUITES, described, suite_of
from cluster.cli.main import main
from cluster.core.errors import UsageError
from train_jobs.evaluation.questions import load_suite


def test_the_redactor_is_scored_without_a_service(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "a.jsonl"
    span = {"type": "EMAIL_ADDRESS", "start": 5, "end": 16}
    data.write_text(json.dumps({"text": "mail ann@corp.io", "spans": [span, {**span, "type": "ZODIAC"}]}))
    assert main(["eval", "run", "--suite", "pii", "--data", str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["suite"] == "pii"
    assert [half["EMAIL"]["right"] for half in result["splits"].values() if half["EMAIL"]["gold"]] == [11]
    assert result["unmapped"] == {"ZODIAC": 1}
    assert main(["eval", "run", "--suite", "pii", "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "EMAIL" in shown
    assert "ZODIAC" in shown


def test_near_duplicates_are_scored_without_a_service(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"a": " ".join(f"w{i}" for i in range(60)), "b": " ".join(f"w{i}" for i in range(61)), "c": "quite another"}
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"id": k, "text": v}) + "\n" for k, v in texts.items()))
    (tmp_path / "pairs.tsv").write_text("id_a\tid_b\tjaccard\na\tb\t0.9825\na\tc\t0\n")
    command = ["eval", "run", "--suite", "dedup", "--data", str(tmp_path), "--json"]
    assert main([*command, "--set", "data.near_duplicate_jaccard=0.7"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [score["threshold"] for score in scores] == [0.7, 0.8, 0.85, 0.9, 0.95]
    assert {score["recall"] for score in scores} == {1.0}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--suite", "dedup"], 2),
        (["--suite", "pii", "--data", "/nowhere"], 3),
        (["--suite", "dedup", "--data", "."], 3),
    ],
)
def test_wrong_data_end_in_one_line(
    arguments: list[str], code: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "run", *arguments]) == code
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_missing_name_model_is_named(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "a.jsonl"
    data.write_text('{"text": "x", "spans": []}')
    command = ["eval", "run", "--suite", "pii", "--data", str(data), "--set", "data.names=/nowhere"]
    assert main(command) == 3
    assert "/nowhere" in "".join(capsys.readouterr())


def test_help_and_dispatch_read_one_table() -> None:
    for name, suite in SUITES.items():
        assert name in described()
        assert suite.scores in described()
        assert suite_of("mine.jsonl" if name == FILE else name) is suite
    with pytest.raises(UsageError, match="did you mean stdlib"):
        suite_of("stdlb")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "field 'id' is missing"),
        ({"id": "1"}, "field 'question' is missing"),
        ({"id": "1", "question": "q"}, "field 'answerable' is missing"),
        ({"id": "1", "question": "q", "answerable": True}, "field 'accepted' is missing"),
        ({"id": "1", "question": "q", "answerable": "yes", "accepted": ["a"]}, "true or false"),
        ({"id": "1", "question": "q", "answerable": True, "accepted": "a"}, "list of names"),
        ({"id": 1, "question": "q", "answerable": True, "accepted": ["a"]}, "must be text"),
    ],
)
def test_a_question_file_says_which_field_is_missing(
    row: dict[str, object], said: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert main(["eval", "run", "--suite", str(path)]) == 3
    captured = capsys.readouterr().err
    assert said in captured
    assert "mine.jsonl:1:" in captured


def test_the_fields_the_help_names_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"id": "1", "question": "q", "answerable": true, "accepted": ["a"]}\n\n'
        '{"id": "2", "question": "r", "answerable": false, "near_miss": true}\n'
    )
    assert [(q.split, q.group) for q in load_suite(str(path))] == [("report", "answerable"), ("report", "near")]
