"""plinth audit verify, show, export, rotate-key, erase: what they print, and that reading leaves a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.audit.audit_log import AuditLog
from actors.audit.chain import segment_path
from actors.audit.entries import Entry
from actors.audit.events import person, record_event
from actors.audit.reading import records
from cluster.cli.audit_log import erase_forgotten
from cluster.cli.main import main
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.sections.audit import AuditSection
from data_jobs.governance.tombstones import Tombstone, Tombstones


@pytest.fixture
def log(home: Path) -> AuditLog:
    log = AuditLog.of(Home(home))
    log.append(
        [
            Entry.of("request", "ann", request_id="req_1", route="/v1/models", status=200),
            Entry.of("request", "bob", request_id="req_2", route="/v1/search", status=429),
            Entry.of("sample", "bob", single=True, request_id="req_2", documents=[["notes/a.md", "notes/a.md"]]),
            Entry.of("sample", "bob", single=True, request_id="req_3", documents=[["b.md", "b.md"]], answer="yes"),
        ]
    )
    record_event(Home(home), AuditSection(), "key_created", tenant="ann", key_id="k1")
    return log


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = ExitCode.DONE) -> Any:
    assert main(["audit", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_without_a_log_there_is_nothing_to_see(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "verify")["last"] == 0
    assert printed(capsys, "show") == {"records": []}
    assert printed(capsys, "erase", "--tenant", "ann") == {
        "tenant": "ann", "document": "", "keys_destroyed": 0, "feedback_erased": 0, "reviews_erased": 0,
    }  # fmt: skip


def test_a_change_is_named_and_is_no_success(log: AuditLog, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = printed(capsys, "verify")
    assert (before["first"], before["last"], before["segments"]) == (1, 5, 1)
    (tmp_path / "head.json").write_text(json.dumps(before))
    assert printed(capsys, "verify", "--since", str(tmp_path / "head.json"))["last"] == 5
    path = segment_path(log.folder, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))  # without record 2
    error = printed(capsys, "verify", code=ExitCode.BAD_INPUT)
    assert "record 2 (segment 1): it is missing or not in its place: 3 stands there" in json.dumps(error)
    assert main(["audit", "verify"]) == ExitCode.BAD_INPUT
    assert main(["audit", "show"]) == ExitCode.BAD_INPUT


def test_reading_is_written_down(log: AuditLog, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = printed(capsys, "show", "--tenant", "bob", "--kind", "request")["records"]
    assert [(row["n"], row["request_id"], row["status"]) for row in shown] == [(2, "req_2", 429)]
    assert [row["n"] for row in printed(capsys, "show", "--request", "req_2")["records"]] == [2, 3]
    assert [row["n"] for row in printed(capsys, "show", "--last", "1")["records"]] == [8]
    target = tmp_path / "out.jsonl"
    assert printed(capsys, "export", "--out", str(target), "--kind", "event") == {"file": str(target), "records": 1}
    assert json.loads(target.read_text())["action"] == "key_created"
    assert target.stat().st_mode & 0o077 == 0
    assert main(["audit", "export", "--out", str(target)]) == ExitCode.USAGE
    read = [one.payload for one in records(log) if one.payload and one.payload["kind"] == "audit_read"]
    assert [(one["verb"], one["by"], one["of"]) for one in read] == [
        ("show", person(), {"tenant": "bob", "kind": "request"}),
        ("show", person(), {"request": "req_2"}),
        ("show", person(), {}),
        ("export", person(), {"kind": "event"}),
    ]
    capsys.readouterr()
    assert main(["audit", "show"]) == ExitCode.DONE
    assert "key_created" in capsys.readouterr().out


def test_keys_change_and_tenants_and_documents_go(log: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "rotate-key")["master"] == "m2"
    assert printed(capsys, "erase", "--document", "b.md", "--why", "asked for")["keys_destroyed"] == 1
    assert printed(capsys, "verify")["erased"] == 1
    assert printed(capsys, "erase", "--tenant", "bob")["keys_destroyed"] == 2  # of its records, and of one sample
    assert printed(capsys, "verify")["erased"] == 3
    assert printed(capsys, "show", "--tenant", "bob")["records"] == []
    kinds = [row["kind"] for row in printed(capsys, "show", "--last", "0")["records"]]
    assert kinds[:5] == ["request", "(erased)", "(erased)", "(erased)", "event"]
    assert main(["audit", "erase"]) == ExitCode.USAGE
    assert main(["audit", "erase", "--tenant", "a", "--document", "b"]) == ExitCode.USAGE


def test_what_is_forgotten_leaves_the_samples(home: Path, log: AuditLog) -> None:
    stones = Tombstones.of([Tombstone(1, where="source=notes/")], "0" * 64)
    assert erase_forgotten(Home(home), stones, "source=notes/", "ann", "") == {"samples_erased": 1}
    assert [one.n for one in records(log) if one.payload is None] == [3]
    assert erase_forgotten(Home(home), stones, "source=notes/", "ann", "") == {"samples_erased": 0}
