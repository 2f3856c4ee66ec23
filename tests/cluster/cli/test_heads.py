"""plinth train safety with decisions, plinth review heads and rollback, and what of it is written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.cli.main import main
from cluster.core.errors import ExitCode
from data_jobs.safety import encoder, in_force
from data_jobs.safety.in_force import shipped
from tests.cluster.cli.test_feedback import events, printed
from tests.train_jobs.recipes.test_safety import rows
from tests.train_jobs.recipes.test_safety_gate import ATTACKS, FINE, WORDS, many
from train_jobs.recipes import safety
from train_jobs.recipes.safety_rows import written_rows

ASKS = shipped().head.embedder
SIZE = len(shipped().head.heads["harmful"].weights)
INJECTIONS = [row for style in ("alpha", "bravo", "charlie") for row in many(f"{style} kiwi", 30, "injection", style)]


def embed(texts: Sequence[str]) -> np.ndarray:
    """As long as the vectors of the shipped heads."""
    found = np.array([[text.lower().count(word) for word in (*WORDS, "kiwi")] for text in texts], dtype=float)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)
    return np.pad(found, ((0, 0), (0, SIZE - found.shape[1])))


@pytest.fixture
def data(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, Any]]], str]:
    monkeypatch.setattr(safety, "_encoder", lambda config: (ASKS, embed))
    monkeypatch.setattr(safety, "written_rows", lambda: written_rows()[::5])  # the others cost seconds of fitting
    blind = {name: replace(head, threshold=99.0) for name, head in shipped().head.heads.items()}
    nothing = replace(shipped(), head=replace(shipped().head, heads=blind))  # finds nothing in these vectors
    monkeypatch.setattr(in_force, "shipped", lambda: nothing)

    def written(found: list[dict[str, Any]]) -> str:
        path = tmp_path / "all.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
        return str(path)

    return written


def test_from_decisions_to_heads_in_use_and_back(
    home: Path, capsys: pytest.CaptureFixture[str], at_80_columns: Callable[..., str],
    data: Callable[[list[dict[str, Any]]], str],
) -> None:  # fmt: skip
    assert printed(capsys, "review", "heads")["in_use"] == shipped().reference
    assert main(["review", "rollback"]) == ExitCode.BAD_INPUT

    rowed = [*rows("zork"), *ATTACKS, *FINE]
    assert main(["train", "safety", "--data", data(rowed)]) == ExitCode.REFUSED, "it has no head for injections"
    said = " ".join(capsys.readouterr().out.split())
    assert "injection: no such head any more" in said
    assert "Nothing changed: shipped@" in said
    assert events(home) == []

    assert main(["train", "safety", "--data", data([*rowed, *INJECTIONS])]) == ExitCode.DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "misses 0.0% (before 100.0%)" in said
    assert "`plinth review rollback` takes it back" in said
    shown = printed(capsys, "review", "heads")
    assert shown["in_use"].startswith("safety@")
    assert [row["head"] for row in shown["heads"]] == ["injection", "harmful"]
    assert [row["passed"] for row in shown["verdicts"]] == [True, False]
    assert "1.000 → 0.000" in at_80_columns("review heads", shown["in_use"].partition("@")[2])
    policies = printed(capsys, "policies", "show")["policies"]
    bars = {row["head"]: row["may"] for row in shown["heads"]}
    assert {row["about"]: row["action"] for row in policies if row["guard"] == "classifier"} == bars

    with pytest.MonkeyPatch.context() as other:
        other.setattr(encoder, "encoder_asks", lambda: "another")
        assert main(["review", "rollback"]) == ExitCode.BAD_INPUT
    back = printed(capsys, "review", "rollback")
    assert back == {"from": shown["in_use"], "in_use": shipped().reference}
    assert printed(capsys, "review", "heads")["in_use"] == shipped().reference
    assert events(home) == ["heads_live", "heads_rolled_back"]
