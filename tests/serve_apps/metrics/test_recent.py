"""Rates and percentiles of the last minutes, out of the gateways' log."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from serve_apps.metrics import recent
from serve_apps.metrics.recent import RequestLog, Seen, history, lately, percentile

NOW = 1_800_000_000.0  # a multiple of the step


def line(ago_s: float, status: int = 200, ms: float = 100.0, **other: Any) -> str:
    at = datetime.datetime.fromtimestamp(NOW - ago_s, datetime.UTC).isoformat(timespec="milliseconds")
    whole = {"ts": at, "component": "gateway", "event": "request", "method": "POST", "route": "/v1/chat/completions",
             "status": status, "tier": "quote", "first_text_ms": ms / 2, "timings_ms": {"total": ms}}  # fmt: skip
    return json.dumps({**whole, **other}) + "\n"


def test_work_is_what_was_sent_to_be_worked_on(tmp_path: Path) -> None:
    path = tmp_path / "gateway.jsonl"
    log = RequestLog(path)
    assert log.look(NOW) == []  # no log yet
    path.write_text(
        line(700)  # too long ago
        + line(30)
        + line(20, method="GET", route="/v1/models")
        + line(20, event="replica_started")
        + line(19, route="other")
        + "{\n"
        + '{"event": "request", "method": "POST"}\n'
        + line(10, 503, tier=None, first_text_ms=None)
    )
    assert log.look(NOW) == [Seen(NOW - 30, "quote", 200, 100.0, 50.0), Seen(NOW - 10, "", 503, 100.0, None)]


def test_the_log_is_read_on_and_a_line_being_written_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "gateway.jsonl"
    log = RequestLog(path)
    first, second = line(30), line(20)
    path.write_text(first + second[:40])
    assert [one.at for one in log.look(NOW)] == [NOW - 30]
    with path.open("a") as more:
        more.write(second[40:])
    assert [one.at for one in log.look(NOW)] == [NOW - 30, NOW - 20]
    path.rename(tmp_path / "gateway.jsonl.1")  # as `plinth up` rotates it
    assert len(log.look(NOW)) == 2
    path.write_text(line(5))
    assert [one.at for one in log.look(NOW)] == [NOW - 30, NOW - 20, NOW - 5]
    assert [one.at for one in log.look(NOW + 575)] == [NOW - 20, NOW - 5]


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.jsonl"
    path.write_text("".join(line(ago) for ago in range(100, 0, -1)))
    monkeypatch.setattr(recent, "MOST_BYTES", 10 * len(line(50)) + 5)
    assert [one.at for one in RequestLog(path).look(NOW)] == [NOW - ago for ago in range(10, 0, -1)]


def test_outcomes_rates_and_percentiles_by_hand() -> None:
    seen = [Seen(NOW - 400, "quote", 200, 9999.0, None)]  # longer ago than LATELY_S
    seen += [Seen(NOW - 200, "quote", 200, float(ms), float(ms) / 10) for ms in range(10, 1010, 10)]
    seen += [
        Seen(NOW - 30, "small", 200, 5.0, None),
        Seen(NOW - 30, "", 503, 1.0, None),
        Seen(NOW - 30, "", 429, 1.0, None),
    ]
    seen += [Seen(NOW - 30, "", 500, 1.0, None), Seen(NOW - 30, "", 404, 1.0, None), Seen(NOW - 30, "", 499, 1.0, None)]
    found = lately(seen, NOW)
    assert found["per_s"] == 0.1  # six in the last minute
    assert {name: found[name] for name in ("answered", "refused", "failed", "wrong")} == {
        "answered": 101, "refused": 2, "failed": 1, "wrong": 2,
    }  # fmt: skip
    quote, small = found["tiers"]["quote"], found["tiers"]["small"]
    assert (quote["answers"], quote["p50_ms"], quote["p95_ms"], quote["p99_ms"]) == (100, 510.0, 960.0, 1000.0)
    assert (quote["first_p50_ms"], quote["first_p95_ms"]) == (51.0, 96.0)
    assert (small["answers"], small["p50_ms"], small["first_p50_ms"]) == (1, 5.0, None)
    assert list(found["tiers"]) == ["quote", "small"]


def test_nothing_seen_is_null_and_no_number() -> None:
    assert percentile([], 50) is None
    json.dumps([lately([], NOW), history([], NOW)], allow_nan=False)
    assert lately([], NOW)["p50_ms"] is None


def test_the_history_ends_with_the_last_whole_step() -> None:
    seen = [
        Seen(NOW - 600, "", 200, 7.0, None),  # the first step's first moment
        Seen(NOW - 11, "", 503, 1.0, None),
        Seen(NOW - 10, "", 200, 20.0, None),
        Seen(NOW - 0.5, "", 200, 40.0, None),
        Seen(NOW - 0.4, "", 500, 1.0, None),
        Seen(NOW + 3, "", 200, 1.0, None),  # of the step that is not over yet
    ]
    found = history(seen, NOW + 4)
    assert (found["step_s"], found["until"]) == (10, NOW)
    assert {len(found[name]) for name in ("requests", "refused", "failed", "p50_ms", "p95_ms")} == {60}
    assert (found["requests"][0], found["requests"][-2:]) == (1, [1, 3])
    assert (found["refused"][-2:], found["failed"][-2:]) == ([1, 0], [0, 1])
    assert found["p95_ms"][-2:] == [None, 40.0]
    assert sum(found["requests"]) == 5
