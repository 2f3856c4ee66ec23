"""`plinth models external`: what is listed, and a switch that outlives the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.main import main
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store
from serve_apps.replicas.switch import read_switch

ENTRY = [word for setting in ("engine=openai", "url=https://api.example.com/v1", "model=big", "key_file=/nowhere/key")
         for word in ("--set", f"serve.tiers.gpt.{setting}")]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = ExitCode.DONE) -> Any:
    assert main(["models", "external", *words, "--json", *ENTRY]) == code
    return json.loads(capsys.readouterr().out)


def test_switching_off_and_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(Home(home).store_uri)
    (found,) = run(capsys)
    assert found == {
        "name": "gpt", "model": "big", "host": "api.example.com", "on": True, "since": "", "why": "",
        "instead": "quote",
    }  # fmt: skip
    (off,) = run(capsys, "off", "gpt", "--why", "contract ended")
    assert (off["on"], off["why"], bool(off["since"])) == (False, "contract ended", True)
    assert not read_switch(store, "gpt").on
    assert run(capsys)[0] == off
    assert run(capsys, "on", "gpt")[0]["on"] is True
    assert read_switch(store, "gpt").on


@pytest.mark.parametrize("words", [("off",), ("off", "gtp"), ("off", "quote"), ("on", "../gpt"), ("away", "gpt")])
def test_what_is_no_external_tier_is_refused(
    words: tuple[str, ...], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(capsys, *words, code=ExitCode.USAGE)["error"]["message"]
    assert "gpt" not in words[1:] or "away" in said
    assert not Path(Store(Home(home).store_uri).root, "switches").exists()


def test_tables_fit(home: Path, at_80_columns: Callable[..., str]) -> None:
    assert "No tier" in at_80_columns("models external")
    assert "api.example.com" in at_80_columns(f"models external {' '.join(ENTRY)}", "gpt")
