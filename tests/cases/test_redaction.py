"""Cases after public bug reports: personal data beside other scripts, and what only looks like it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_jobs.pii import find

FOLDER = Path(__file__).parent
CHECKS = {
    path.parent.name: json.loads(path.read_text(encoding="utf-8"))["check"]
    for path in sorted(FOLDER.glob("*/expected.json"))
}
CASES = [
    pytest.param(text, wanted, check.get("overlap", False), id=f"{name}-{number}")
    for name, check in CHECKS.items()
    if check["kind"] == "pii"
    for number, (text, wanted) in enumerate(check["cases"])
]


@pytest.mark.parametrize(("text", "wanted", "overlap"), CASES)
def test_case(text: str, wanted: list[str], overlap: bool) -> None:
    found = [text[f.start : f.end] for f in find(text)]
    if overlap:
        assert all(any(value in one for one in found) for value in wanted)
    else:
        assert found == wanted
