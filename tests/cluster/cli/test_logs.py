"""plinth logs: readable lines, raw lines, following."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from cluster.cli import logs
from cluster.cli.main import main
from cluster.cli.output import fold
from cluster.core.home import Home
from cluster.core.telemetry import log_event

REQUEST = {"ts": "2026-01-02T03:04:05.678+00:00", "component": "gateway", "event": "request", "pid": 1,
           "request_id": "req_0123456789abcdef01234567", "status": 503, "error": "down\x1b[31m",
           "verdicts": ["in:allow:none"], "timings_ms": {"total": 12.5}}  # fmt: skip


def test_a_line_is_read_by_people() -> None:
    text = fold(logs.readable(REQUEST), 60).plain
    assert text.startswith("2026-01-02 03:04:05 error gateway request")
    assert "timings_ms.total=12.5" in text
    assert "\x1b" not in text
    assert "{" not in text
    assert max(map(len, text.splitlines())) <= 60
    assert "request_id=req_0123456789abcdef01234567" in text


@pytest.mark.parametrize(
    ("fields", "level"),
    [({"status": 200}, "info"), ({"status": 404}, "warning"), ({"status": 500}, "error"), ({"error": "x"}, "error"),
     ({"event": "run_failed"}, "error"), ({"level": "debug", "status": 500}, "debug"), ({}, "info")],
)  # fmt: skip
def test_a_level_is_told_from_the_line(fields: dict[str, object], level: str) -> None:
    assert logs.level_of(fields) == level


def test_filters_and_raw_lines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(300):
        log_event("gateway", "request", request_id=f"req_{number}", status=200)
    log_event("model", "live", version="v1")
    assert main(["logs", "gateway", "--request", "req_7", "--json"]) == 0
    assert [json.loads(line)["request_id"] for line in capsys.readouterr().out.splitlines()] == ["req_7"]
    assert main(["logs", "gateway", "-n", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "request_id=req_298" in first
    assert "request_id=req_299" in second
    assert main(["logs", "-n", "1"]) == 0
    assert "version=v1" in capsys.readouterr().out


def test_a_follower_sees_what_comes_whole_lines_only_also_after_a_rotation(home: Path) -> None:
    path = Home.from_env().logs / "gateway.jsonl"
    path.write_text('{"event": "old"}\n')
    file = logs.LogFile(path)
    assert [line.fields["event"] for line in file.newest(10, None)] == ["old"]
    with open(path, "a") as handle:
        handle.write('{"event": "one"}\n{"event": "ha')
        handle.flush()
        assert [line.fields["event"] for line in file.fresh(None)] == ["one"]
        handle.write('lf"}\n')
    assert [line.fields["event"] for line in file.fresh(None)] == ["half"]
    path.replace(path.with_suffix(".jsonl.1"))
    assert file.fresh(None) == []
    path.write_text('{"event": "new"}\n')
    assert [line.fields["event"] for line in file.fresh(None)] == ["new"]


def test_ctrl_c_ends_following_with_0(home: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    log_event("gateway", "before")

    def one_line_then_ctrl_c(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread() and not getattr(one_line_then_ctrl_c, "done", False):
            one_line_then_ctrl_c.done = True  # type: ignore[attr-defined]
            log_event("gateway", "meanwhile")
            return
        raise KeyboardInterrupt

    monkeypatch.setattr(logs.time, "sleep", one_line_then_ctrl_c)
    assert main(["logs", "-f"]) == 0
    said = capsys.readouterr().out
    assert "before" in said
    assert "meanwhile" in said
