"""Errors survive pickling and become exit codes; logs are one JSON line per event, whatever is in the values."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core import errors
from cluster.core.entry import run_main
from cluster.core.errors import ExitCode, PlinthError
from cluster.core.home import Home
from cluster.core.telemetry import COMPONENTS, METRICS, log_event

FAMILY = [errors.PlinthError, *errors.PlinthError.__subclasses__()]


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind: type[PlinthError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what went wrong", path="a", limit=3)))
    assert type(copy) is kind
    assert (copy.message, copy.extras, str(copy)) == ("what went wrong", {"path": "a", "limit": 3}, "what went wrong")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("u"), 2),
        (errors.BadInputError("b"), 3),
        (errors.PolicyRefusedError("p"), 4),
        (errors.EnvironmentFaultError("e"), 5),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("bug"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise error

    assert run_main(work) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1, "one clear line"
    assert "Traceback" not in said
    assert run_main(work, as_json=True) == code
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == code
    if code == ExitCode.INTERNAL:
        assert "ZeroDivisionError" in (home / "logs" / "cli-error.log").read_text()


def test_hostile_values_stay_on_one_line(home: Path) -> None:
    hostile = 'a\n{"level":"CRITICAL"}\r\n\x1b[2J\u2028\u0000' + "x" * 10_000
    log_event("gateway", "request", client=hostile, missing=None)
    lines = (home / "logs" / "gateway.jsonl").read_text().splitlines()
    assert len(lines) == 1
    record = json.loads(lines[0])
    assert record["client"].startswith("a\n{")
    assert len(lines[0]) < 3000
    assert "missing" not in record
    assert "\x1b" not in lines[0]


def test_unknown_components_are_refused(home: Path) -> None:
    with pytest.raises(ValueError, match="COMPONENTS"):
        log_event("nobody", "x")
    assert "gateway" in COMPONENTS


def test_metric_labels_are_closed_and_never_user_text() -> None:
    labels = {label for metric in METRICS.values() for label in metric.labels}
    assert labels <= {
        "route", "status", "stage", "action", "rule", "tier", "grounded", "reason", "outcome", "kind",
        "deployment", "direction",
    }  # fmt: skip


def test_token_is_private_from_its_first_byte(home: Path) -> None:
    path = Home.from_env().ensure_token()
    assert path.stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    first = path.read_text()
    path.chmod(0o644)
    assert Home.from_env().ensure_token().read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.process
def test_leaving_flushes_and_keeps_the_exit_code() -> None:
    """Even with a native thread that would abort an ordinary exit: here a non-daemon Python thread that never ends."""
    code = (
        "import threading; from cluster.core.entry import leave\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "print('said'); leave(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (3, "said\n")
