"""plinth policies: what is in force, and what is wrong with a file, by line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import output
from cluster.cli.main import main
from cluster.core.plain_yaml import line_of
from data_jobs.safety.head import SHIPPED, SafetyHead
from serve_apps import served_code

MINE = """\
version: "3"
policies:
  - name: default
    rules: {injection: block, harmful: block}
    classifier: {injection: {action: earned}, harmful: {threshold: 99}}
    personal_data: redact
  - name: law
    tenants: [law]
    collections: [contracts]
    rules: {weapons: "off"}
    forbidden: [Project Bluebird, Case 4711]
    output: {harmful: block}
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    monkeypatch.setattr(output.console, "width", 200)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["policies", "show", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_shipped_policies_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    head = SafetyHead.from_json(SHIPPED.read_text())
    found = shown(capsys)
    assert found["version"] == "1"
    said = [(row["guard"], row["about"], row["action"], row["on"]) for row in found["policies"]]
    assert said == [
        ("rules", "injection", "block", True), ("rules", "harmful", "block", True),
        ("classifier", "injection", head.action("injection"), False),
        ("classifier", "harmful", head.action("harmful"), False),
        ("personal_data", "personal data", "redact", True),
    ]  # fmt: skip
    assert found["policies"][2]["threshold"] == head.heads["injection"].threshold


def test_a_file_s_policies_are_shown_for_whom_they_hold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    setting = ("--set", f"trust.policies={path}")
    everything = shown(capsys, *setting)["policies"]
    assert {row["policy"] for row in everything} == {"default", "law"}
    assert (
        next(row for row in everything if row["guard"] == "classifier" and row["about"] == "harmful")["threshold"] == 99
    )
    assert {row["policy"] for row in shown(capsys, *setting, "--tenant", "finance")["policies"]} == {"default"}
    assert len(shown(capsys, *setting, "--tenant", "law", "--collection", "contracts")["policies"]) == len(everything)
    assert main(["policies", "show", *setting]) == 0
    text = capsys.readouterr().out
    assert "version 3" in text
    assert "2 forbidden texts" in text
    assert "Bluebird" not in text, "what is forbidden is not printed either"
    assert "guard not in serve.guards" in text


def test_a_file_that_is_fine_is_said_to_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    assert main(["policies", "check", str(path)]) == 0
    assert "2 policies, version 3" in capsys.readouterr().out


def test_all_that_is_wrong_is_named_by_line_and_field(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    wrong = (
        MINE.replace("tenants: [law]", "tenant: [law]")
        .replace('"off"', "off")
        .replace("harmful: block}\n    c", "x: block}\n    c")
    )
    path.write_text(wrong)
    assert main(["policies", "check", str(path), "--json"]) == 3
    found = {(one["line"], one["field"]): one["message"] for one in json.loads(capsys.readouterr().out)["problems"]}
    assert found.keys() == {
        (4, "policies.0.rules"), (8, "policies.1.tenant"), (10, "policies.1.rules.weapons"),
    }  # fmt: skip
    assert "no rule or category 'x'; there are" in found[4, "policies.0.rules"]
    assert "there are name, tenants, collections" in found[8, "policies.1.tenant"]
    assert 'write "off"' in found[10, "policies.1.rules.weapons"]
    assert main(["policies", "check", str(path)]) == 3
    assert "mine.yaml, line 8: policies.1.tenant: " in capsys.readouterr().out


@pytest.mark.parametrize("text", ["version: [", "a: 1\na: 2", "", "- 1"])
def test_what_is_no_file_of_policies_is_said(text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert main(["policies", "check", str(path)]) == 3
    assert "mine.yaml" in capsys.readouterr().out
    assert main(["policies", "check", str(tmp_path / "none.yaml")]) == 3


def test_a_device_is_not_read_to_its_end() -> None:
    assert main(["policies", "check", "/dev/zero"]) == 3


def test_the_line_of_a_place() -> None:
    places = ((), ("version",), ("policies", 1), ("policies", 1, "rules", "weapons"))
    assert [line_of(MINE, place) for place in places] == [1, 1, 7, 10]
    assert line_of(MINE, ("policies", 1, "nothing", 3)) == 7
    assert line_of("", ("a",)) == 1


def test_an_edited_file_is_another_service(tmp_path: Path) -> None:
    """The configuration names the file only: without this, `plinth up` would find nothing to do."""
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    before = served_code(str(path))
    assert before == served_code(str(path)) != served_code("")
    path.write_text(f"# the same\n{MINE}")
    assert served_code(str(path)) == before
    path.write_text(MINE.replace("Bluebird", "Redstart"))
    assert served_code(str(path)) != before
