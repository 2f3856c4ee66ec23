"""plinth review: looking, deciding, rows for training; and that each of it leaves a trace."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.main import main
from cluster.cli.review import erase_reviews, queue_of
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from tests.cluster.cli.test_feedback import events, printed
from tests.serve_apps.service import FOUND
from train_jobs.recipes.safety_rows import read_texts


def decide(capsys: pytest.CaptureFixture[str], item: str, *more: str) -> dict[str, Any]:
    return printed(capsys, "review", "decide", item, *more)


def test_from_the_queue_to_rows_of_training(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], at_80_columns: Callable[..., str]
) -> None:
    assert printed(capsys, "review", "list") == {"review": []}
    out = tmp_path / "review.jsonl"
    assert main(["review", "export", "--out", str(out)]) == ExitCode.BAD_INPUT
    other = replace(FOUND, text="Another one")
    queue_of(Home(home)).put([FOUND, other])
    assert [one["text"] for one in printed(capsys, "review", "list")["review"]] == [FOUND.text, other.text]
    at_80_columns("review list", FOUND.named.id, other.named.id)
    assert FOUND.text in at_80_columns(f"review show {FOUND.named.id}", FOUND.named.id).replace("\n", " ")
    decided = decide(capsys, FOUND.named.id, "harmless", "--note", "Ann is at ann@corpmail.net")
    assert (decided["decision"], decided["note"]) == ("harmless", "Ann is at <EMAIL_1>")
    assert "@" in decided["by"]
    assert printed(capsys, "review", "export", "--out", str(out)) == {"file": str(out), "rows": 1}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [row["text"] for row in read_texts(str(out)).train] == [FOUND.text]
    assert main(["review", "export", "--out", str(out)]) == ExitCode.USAGE
    read, wrote = ["review_read"], ["review_exported"]
    assert events(home) == [*read * 4, "review_decided", *wrote * 2]


def test_a_text_is_no_markup_in_the_terminal_of_whoever_reviews_it(
    home: Path, at_80_columns: Callable[..., str]
) -> None:
    marked = replace(FOUND, text="[link=https://evil.example]CLICK[/link] [conceal]hidden[/conceal]")
    queue_of(Home(home)).put([marked])
    assert "[conceal]hidden" in at_80_columns("review list", marked.named.id)


def test_what_is_none_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue_of(Home(home)).put([FOUND])
    assert main(["review", "show", "nothing"]) == ExitCode.BAD_INPUT
    assert main(["review", "decide", "nothing", "harmful"]) == ExitCode.BAD_INPUT
    assert main(["review", "decide", FOUND.named.id, "fine"]) == ExitCode.USAGE
    assert main(["review", "list", "--limit", "0"]) == ExitCode.USAGE
    assert "review list" in capsys.readouterr().err
    assert events(home) == []


def test_it_goes_with_its_tenant(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert erase_reviews(Home(home), "default") == 0
    assert not (home / "review").exists(), "nothing is made in order to be erased"
    queue_of(Home(home)).put([FOUND, replace(FOUND, tenant="other")])
    assert printed(capsys, "audit", "erase", "--tenant", "default")["reviews_erased"] == 1
    assert json.dumps([one.tenant for one in queue_of(Home(home)).page()]) == '["other"]'
