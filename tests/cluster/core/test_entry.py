"""Entry points: one line of error, an exit code, and with --json nothing but JSON on stdout."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading

import pytest

from cluster.cli.output import Stages
from cluster.core import entry
from cluster.core.entry import print_json, run_main
from cluster.core.errors import BadInputError


def test_with_json_what_libraries_print_does_not_reach_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        print("(raylet) a worker died")
        print_json({"done": True})
        return 0

    assert run_main(work, as_json=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"done": True}
    assert "a worker died" in err


def test_an_error_is_json_on_stdout_too(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        print("noise")
        raise BadInputError("no such folder")

    assert run_main(work, as_json=True) == 3
    out, _ = capsys.readouterr()
    assert json.loads(out)["error"] == {"message": "no such folder", "exit_code": 3, "kind": "bad_input"}


def test_without_json_prints_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        print("a table")
        return 0

    assert run_main(work) == 0
    assert capsys.readouterr().out == "a table\n"


def test_an_interrupt_that_a_callback_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_interrupted", threading.Event())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            entry.interrupt_as_exception()
            with contextlib.suppress(KeyboardInterrupt):  # as Python does in a finaliser
                signal.raise_signal(number)
            with pytest.raises(KeyboardInterrupt):
                entry.check_interrupted()
            stages = Stages(show=False)
            with pytest.raises(KeyboardInterrupt), stages.run("more work"):
                pytest.fail("the verb went on")
            entry._interrupted.clear()
            entry.check_interrupted()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_bars_of_libraries_do_not_write_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    code = (
        "from cluster.core.entry import run_main\n"
        "def work():\n"
        "    from huggingface_hub import constants\n"
        "    return 0 if constants.HF_HUB_DISABLE_PROGRESS_BARS else 9\n"
        "raise SystemExit(run_main(work))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
