"""``THREATS.md`` is true: every threat of its list is there, and every test that it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = [line for line in (HERE / "THREATS.md").read_text().splitlines() if line.startswith("| T")]
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


@cache
def functions_in(path: Path) -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_test_of_a_threat_is_there(row: str) -> None:
    named = NAMED.findall(row)
    assert named
    assert row.count("::") == len(named), "each is written as `file::test`"
    for file, name in named:
        assert (HERE / file).is_file(), file
        assert name in functions_in(HERE / file), f"{file}::{name}"


def test_no_threat_of_this_list_is_left_out() -> None:
    assert [row.split("|")[1].strip() for row in ROWS] == [f"T{n}" for n in (*range(1, 12), *range(16, 33))]
