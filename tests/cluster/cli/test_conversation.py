"""The talk of `plinth ask`: what is sent, commands, Ctrl-C, history."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import conversation
from cluster.cli.conversation import converse, last_turns
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home
from cluster.core.sections.serve import ServeSection

SOURCE = {"document": "engine.md", "title": "Engine", "source": "boat/engine.md", "text": "6.5 litres of \x1b[31moil",
          "also": [{"document": "old/engine.md", "title": "Engine", "source": "boat/old/engine.md"}]}  # fmt: skip


def talk(turns: int, size: int = 1) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": "x" * size} for n in range(2 * turns - 1)]


def test_of_a_long_talk_the_last_turns_that_fit_are_sent() -> None:
    assert last_turns(talk(3), 200, 1000) == talk(3)
    assert len(last_turns(talk(101), 200, 1000)) == 199, "whole turns: the first one sent is a question"
    assert last_turns(talk(101), 200, 1000)[0]["role"] == "user"
    assert len(last_turns(talk(200, 200), 1000, 32_000)) == 159
    assert len(last_turns(talk(2, 2000), 200, 1000)) == 1, "the last question is sent whatever its length"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lines a person types; an exception among them is raised at the prompt."""

    def type_them(*lines: str | type[BaseException]) -> None:
        left = iter(lines)

        def read(prompt: str = "") -> str:
            line = next(left, EOFError)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr("builtins.input", read)

    return type_them


def test_the_talk_goes_on_after_ctrl_c_and_after_errors(
    home: Path, typed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []

    def ask(messages: list[dict[str, str]]) -> dict[str, Any]:
        seen.append([message["content"] for message in messages])
        if messages[-1]["content"] == "long":
            signal.raise_signal(signal.SIGINT)
        if messages[-1]["content"] == "bad":
            raise EnvironmentFaultError("the guard is down")
        return {"text": "an answer", "plinth": {"citations": [SOURCE]}}

    before = signal.getsignal(signal.SIGINT)
    typed(
        "one",
        "",
        "long",
        "bad",
        KeyboardInterrupt,
        "two",
        "/sources",
        "/sources 1",
        "/sources 2",
        "/what",
        "exit",
        "no",
    )
    assert converse(ask, Home.from_env(), ServeSection()) == EnvironmentFaultError.exit_code, "a script is told"
    assert seen == [["one"], ["one", "an answer", "long"], ["one", "an answer", "bad"], ["one", "an answer", "two"]]
    said = capsys.readouterr().out
    for part in (
        "stopped",
        "the guard is down",
        "[1] engine.md: Engine",
        "also in old/engine.md",
        "6.5 litres",
        "sources 1 to 1",
        "no /what",
    ):
        assert part in said
    assert "\x1b" not in said
    assert signal.getsignal(signal.SIGINT) is before


def test_a_mistyped_model_ends_the_talk(home: Path, typed: Callable[..., None]) -> None:
    def ask(messages: list[dict[str, str]]) -> dict[str, Any]:
        raise UsageError("there is no model 'smal'; did you mean small?")

    typed("one")
    with pytest.raises(UsageError):
        converse(ask, Home.from_env(), ServeSection())


def test_the_history_is_kept_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readline = pytest.importorskip("readline")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    path = tmp_path / "ask_history"
    with conversation._line_editing(path):
        readline.add_history("How much oil?")
    assert "How much oil?" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    readline.clear_history()
    with conversation._line_editing(path):
        assert readline.get_history_item(1) == "How much oil?"
    readline.clear_history()
