"""plinth keys store: encrypts what is there, and goes on under a new key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.audit.audit_log import AuditLog
from actors.audit.reading import records
from cluster.cli.main import main
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.data_jobs.artefacts import dataset, document


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main(["keys", "store", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_store_is_encrypted_once_and_again_under_a_new_key(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = Home(home).store_uri
    made = dataset(Store(uri), [document("a.md", "the salary of the director")])
    files = len(Store(uri).fs.find(uri))
    first = said(capsys)
    assert first["files"] >= len(made.files) + 1
    assert first["files"] <= files
    assert said(capsys) == {**first, "files": 0}
    second = said(capsys, "--rotate")
    assert (second["files"], second["key"] != first["key"]) == (first["files"], True)
    Store(uri).verify(made)
    found = [record.payload for record in records(AuditLog.of(Home(home))) if record.payload]
    assert [(one["action"], one["key"]) for one in found] == [
        ("store_key_made", first["key"]),
        ("store_key_made", second["key"]),
    ]


def test_not_while_a_job_writes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(Home(home).store_uri).job():
        assert main(["keys", "store"]) == 5
    assert not Home(home).store_keys_path.exists()
