"""plinth feedback: sent through a real service, listed, published, and gone with its tenant or document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.audit.audit_log import AuditLog
from actors.audit.reading import records
from actors.feedback.book import Feedback, MadeOf
from cluster.cli.feedback import book_of, erase_feedback
from cluster.cli.main import main
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store
from data_jobs.governance.tombstones import Tombstone, Tombstones
from tests.serve_apps.service import Service, desks, on_socket

SAID = Feedback("ans_1", "up", True, comment="fine", key_id="k", tenant="research",
                made_of=MadeOf(documents=(("notes/a.md", "notes/a.md"),)))  # fmt: skip


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = ExitCode.DONE) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out or said.err.splitlines()[-1])
    return found


def events(home: Path) -> list[str]:
    read = [one.payload or {} for one in records(AuditLog.of(Home(home)))]
    return [str(one["action"]) for one in read if one.get("kind") == "event"]


def test_it_is_sent_to_the_service_and_wrong_ids_are_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with on_socket(Service(**desks()).app()) as url:
        port = f"cluster.http_port={url.rpartition(':')[2]}"
        kept = printed(capsys, "feedback", "send", "ans_main", "--down", "--correction", "x", "--set", port)
        assert (kept["answer_id"], kept["rating"], kept["consent"]) == ("ans_main", "down", False)
        assert main(["feedback", "send", "ans_other", "--up", "--set", port]) == ExitCode.BAD_INPUT
        assert "has no such answer" in capsys.readouterr().err
        assert main(["feedback", "send", "nothing", "--up", "--set", port]) == ExitCode.BAD_INPUT
        assert main(["feedback", "send", "ans_main", "--set", port]) == ExitCode.USAGE
    assert main(["feedback", "send", "ans_main", "--up", "--set", port]) == ExitCode.ENVIRONMENT


def test_what_was_said_is_listed_and_published_and_both_are_written_down(
    home: Path, capsys: pytest.CaptureFixture[str], at_80_columns: Callable[..., str]
) -> None:
    assert printed(capsys, "feedback", "list") == {"feedback": []}
    assert main(["feedback", "export"]) == ExitCode.BAD_INPUT
    book_of(Home(home)).say(SAID)
    book_of(Home(home)).say(Feedback("ans_2", "down", comment="no", key_id="k", tenant="finance"))
    assert [one["answer_id"] for one in printed(capsys, "feedback", "list", "--last", "0")["feedback"]] == [
        "ans_2",
        "ans_1",
    ]
    assert [one["rating"] for one in printed(capsys, "feedback", "list", "--tenant", "research")["feedback"]] == ["up"]
    at_80_columns("feedback list", "ans_1", "ans_2")
    made = printed(capsys, "feedback", "export")
    assert (made["rows"], made["left_out"]) == (1, {"consent": 1})
    assert made["artefact"].startswith("feedback/feedback@")
    assert events(home) == [*["feedback_read"] * 4, "feedback_exported"]


def test_it_goes_with_its_tenant_and_with_its_document(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Home(home)
    store = Store(place.store_uri)
    assert erase_feedback(place, "research") == 0
    assert not (home / "feedback").exists(), "nothing is made in order to be erased"
    book_of(place).say(SAID)
    printed(capsys, "feedback", "export")
    assert store.alias("feedback", "feedback", "latest")
    assert printed(capsys, "audit", "erase", "--tenant", "finance")["feedback_erased"] == 0
    assert store.alias("feedback", "feedback", "latest")
    assert printed(capsys, "audit", "erase", "--tenant", "research")["feedback_erased"] == 1
    assert store.alias("feedback", "feedback", "latest") is None, "`plinth gc` removes what has no name"
    book_of(place).say(SAID)
    stones = Tombstones.of([Tombstone(1, where="source=notes/")], "0" * 64)
    assert erase_feedback(place, stones=stones) == 1
    book_of(place).say(SAID)
    receipt = printed(capsys, "data", "forget", "--document", "notes/a.md", "--even-unknown")
    assert receipt["audit"]["feedback_erased"] == 1
    assert book_of(place).entries(9) == []
