"""The embedding bench: both sides embed the same chunks; impossible arguments are named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from cluster.cli.main import main


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    picker = random.Random(1)
    words = [f"word{number}" for number in range(300)]
    for number in range(80):
        lines = [" ".join(picker.choices(words, k=12)).capitalize() + "." for _ in range(20)]
        (tmp_path / f"{number}.md").write_text(" ".join(lines))
    return tmp_path


def test_too_few_documents_or_rounds_are_usage_errors(prose: Path, home: Path) -> None:
    common = ["bench", "data", "--embedding", "--path", str(prose), "--workers", "1", "--json"]
    assert main([*common, "--documents", "1"]) == 2
    assert main([*common, "--rounds", "0"]) == 2
    assert main(["bench", "data", "--embedding", "--workers", "0", "--json"]) == 2


@pytest.mark.slow
def test_pool_and_processes_embed_the_same_chunks(prose: Path, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--embedding", "--path", str(prose), "--workers", "1", "--documents", "8", "--json"]
    assert main(["bench", "data", *arguments]) == 0
    level = json.loads(capfd.readouterr().out)["levels"][0]
    assert level["chunks"] >= level["documents"] == 8
    assert level["ratio"] == pytest.approx(level["pool_chunks_per_s"] / level["processes_chunks_per_s"], rel=0.01)
