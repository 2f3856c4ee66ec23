"""`plinth load`: a trace against the HTTP application in process over fakes, on a real socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.main import main
from cluster.core.home import Home
from cluster.core.telemetry import log_event
from cluster.processes import free_ports
from tests.fakes import FixedRetriever
from tests.serve_apps.service import Service, on_socket

ROWS = [(n * 0.5, 100 + n, 10 + n) for n in range(12)]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    lines = "".join(f"{at},{context},{generated}\n" for at, context, generated in ROWS)
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{lines}")
    return path


def words(url: str, trace: Path, *more: str) -> list[str]:
    return ["load", "--trace", str(trace), "--set", f"cluster.http_port={url.rsplit(':', 1)[1]}", *more]


@pytest.mark.process
def test_a_replayed_trace(
    trace: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Home.from_env().folder("logs")
    log_event("scaling", "scaled", deployment="guard", before=1, after=2, why="before the replay")
    service = Service(retriever=FixedRetriever(names=("main", "boats")))
    scaled = iter([True])

    def write(component: str, event: str, **fields: Any) -> None:
        service.log.append(fields)
        if fields.get("route") == "/v1/chat/completions" and next(scaled, False):
            log_event("scaling", "scaled", deployment="quote", before=1, after=3, why="load")

    monkeypatch.setattr(service, "_write", write)
    picture = tmp_path / "plots" / "load.png"
    with on_socket(service.app()) as url:
        more = ("--model", "auto@boats", "--speed", "10", "--duration", "0.5", "--plot", str(picture), "--json")
        assert main(words(url, trace, *more)) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["requests"], found["answered"], found["failed"]) == (11, 11, 0)
        assert found["tokens_asked"] == {"prompt": None, "answer": sum(row[2] for row in ROWS[:11])}
        assert 0 < found["tokens"]["answer"] <= found["tokens_asked"]["answer"]
        assert found["asked_per_s"] == pytest.approx(22)
        assert found["whole_ms"]["p50"] <= found["whole_ms"]["p95"] <= found["whole_ms"]["p99"]
        assert sum(step["answered"] for step in found["timeline"]) == 11
        assert found["distinct_questions"] == 3
        assert picture.read_bytes().startswith(b"\x89PNG")
        (event,) = found["scale_events"]
        assert (event["deployment"], event["before"], event["after"]) == ("quote", 1, 3)
        assert 0 <= event["at_s"] <= found["seconds"] + 1
        assert {one["model"] for one in service.log if one.get("route") == "/v1/chat/completions"} == {"auto"}
        assert {one["collection"] for one in service.log if one.get("route") == "/v1/chat/completions"} == {"boats"}

        own = tmp_path / "own.txt"
        own.write_text("Where is it?\n\n  And who?  \n")
        assert main(words(url, trace, "--questions", str(own), "--limit", "4", "--speed", "100")) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "4 answered, 0 refused, 0 failed, 0 not sent" in said
        assert "2 distinct" in said
        assert set(service.retriever.questions[-4:]) == {"Where is it?", "And who?"}


@pytest.mark.process
def test_clients_in_steps(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, picture = Service(), tmp_path / "steps.png"
    with on_socket(service.app()) as url:
        more = ["--steps", "1:0.4,3:0.4,1:0.4", "--set", f"cluster.http_port={url.rsplit(':', 1)[1]}"]
        own = tmp_path / "own.txt"
        own.write_text("Where is it?\nAnd who?\n")
        assert main(["load", *more, "--questions", str(own), "--plot", str(picture), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["failed"] == found["refused"] == 0
        assert [step["clients"] for step in found["steps"]] == [1, 3, 1]
        ends = [step["end_s"] for step in found["steps"]]
        assert ends == pytest.approx([0.4, 0.8, 1.2])
        assert sum(step["answered"] for step in found["steps"]) == found["answered"] >= 1
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert main(["load", *more, "--questions", str(own)]) == 0
        assert "by step" in capsys.readouterr().out


@pytest.mark.process
def test_what_cannot_be_replayed(trace: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with on_socket(Service(retriever=FixedRetriever(names=())).app()) as url:
        assert main(words(url, trace, "--model", "quot")) == 2
        assert "did you mean quote?" in capsys.readouterr().err
        assert main(words(url, trace)) == 5
        assert "--questions" in capsys.readouterr().err
        (tmp_path / "blank.txt").write_text(" \n\n")
        for name in ("blank.txt", "none.txt"):
            assert main(words(url, trace, "--questions", str(tmp_path / name))) == 3
            assert name in capsys.readouterr().err
    assert main(words(f"http://127.0.0.1:{free_ports(1)[0]}", trace)) == 5
    assert "plinth up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TIMESTAMP,GeneratedTokens\n1,2\n", "lacks contexttokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,1,1\n4,1,1\n", "sort the trace"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no rows"),
    ],
)
def test_a_bad_trace_is_exit_3_before_anybody_is_asked(
    text: str, said: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text(text)
    assert main(["load", "--trace", str(tmp_path / "bad.csv")]) == 3
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--trace", "x.csv", "--speed", "0"],
        ["--trace", "x.csv", "--duration", "-1"],
        ["--trace", "x.csv", "--slo-ms", "nan"],
        ["--trace", "x.csv", "--limit", "0"],
        ["--trace", "x.csv", "--outstanding", "0"],
        ["--trace", "x.csv", "--completions"],
        ["--trace", "x.csv", "--steps", "1:1"],
        ["--steps", "1:1", "--completions", "--model", "quote"],
        ["--steps", "1"],
        ["--steps", "0:5"],
        ["--steps", "2:-1"],
        ["--steps", "2:3,,1:1"],
        ["--trace", "x.csv", "--speed", "quick"],
    ],
)
def test_usage(more: list[str], home: Path) -> None:
    assert main(["load", *more]) == 2
