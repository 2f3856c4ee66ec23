"""What the tests of verbs share: running one at 80 columns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.cli import output
from cluster.cli.main import main


@pytest.fixture
def at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a verb as in a terminal of 80 columns; ids handed in must stand whole, and no line may be longer than 80
    (but for one with a path of 60 and more) or show a Python value."""

    def run(words: str, *ids: str) -> str:
        monkeypatch.setattr(output.console, "width", 80)
        monkeypatch.setenv("COLUMNS", "80")
        capsys.readouterr()
        assert main(words.split()) in (0, 5), words
        said = capsys.readouterr().out
        whole = said.replace("@", " ").replace(",", " ").split()
        assert [one for one in ids if one not in whole] == [], f"{words}\n{said}"
        long = [line.split() for line in said.splitlines() if len(line.rstrip()) > 80]
        assert [line for line in long if max(map(len, line)) < 60] == [], words
        assert [python for python in ("{'", "['", "('", "None") if python in said] == [], f"{words}\n{said}"
        return said

    return run
