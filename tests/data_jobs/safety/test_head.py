"""Heads: what was measured decides what they may do, and a damaged file gives none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cluster.core.errors import IncompatibleError, IntegrityError
from data_jobs.safety.head import PIECE, SHIPPED, Head, Measured, SafetyHead, pieces

GOOD = Measured(auroc=0.9, recall=0.85, business=0.02, look_alike=0.04, worst_set=0.04)
HEAD = SafetyHead(
    "asks", "v1", {"injection": Head((1.0, 0.0), 0.5, 1.0, GOOD), "harmful": Head((0, 2.0), 0, 1.0, GOOD)}
)


def measured(category: str, **other: float) -> SafetyHead:
    heads = dict(HEAD.heads)
    heads[category] = replace(heads[category], measured=replace(GOOD, **other))
    return replace(HEAD, heads=heads)


@pytest.mark.parametrize(
    ("category", "other", "action"),
    [
        ("injection", {}, "block"),
        ("injection", {"auroc": 0.849}, "flag"),
        ("injection", {"business": 0.031}, "flag"),
        ("injection", {"recall": 0.1, "look_alike": 0.9}, "block"),
        ("harmful", {}, "block"),
        ("harmful", {"recall": 0.79}, "flag"),
        ("harmful", {"look_alike": 0.051}, "flag"),
        ("harmful", {"business": 0.031}, "flag"),
        ("harmful", {"worst_set": 0.051}, "flag"),
        ("injection", {"worst_set": 0.051}, "flag"),
    ],
)
def test_a_head_that_misses_its_bar_does_not_block(category: str, other: dict[str, float], action: str) -> None:
    assert measured(category, **other).action(category) == action


def test_a_file_that_does_not_say_what_the_worst_set_is_does_not_block() -> None:
    data = json.loads(HEAD.to_json())
    del data["heads"]["harmful"]["measured"]["worst_set"]
    found = SafetyHead.from_json(json.dumps(data))
    assert [found.action(name) for name in ("harmful", "injection")] == ["flag", "block"]


def test_scores_are_log_odds_of_vectors() -> None:
    scores = HEAD.scores(np.array([[1.0, 0.0], [0.0, 3.0]]))
    assert scores["injection"].tolist() == [1.5, 0.5]
    assert scores["harmful"].tolist() == [0.0, 6.0]


def test_a_head_comes_back_out_of_its_file() -> None:
    assert SafetyHead.from_json(HEAD.to_json()) == HEAD


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: data | {"format": 2}, IncompatibleError),
        (lambda data: data | {"heads": {}}, IntegrityError),
        (lambda data: data | {"heads": {"rude": data["heads"]["harmful"]}}, IntegrityError),
        (lambda data: data | {"heads": {"harmful": data["heads"]["harmful"] | {"bias": "nan"}}}, IntegrityError),
        (lambda data: data | {"heads": {"harmful": data["heads"]["harmful"] | {"measured": {}}}}, IntegrityError),
        (lambda data: [data], IntegrityError),
    ],
)
def test_a_damaged_file_is_refused(change: Callable[[Any], Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="safety_head"):
        SafetyHead.from_json(json.dumps(change(json.loads(HEAD.to_json()))))


def test_a_long_text_is_read_in_pieces_without_a_gap() -> None:
    text = "one two three " * 500
    assert "".join(pieces(text)) == text
    assert max(map(len, pieces(text))) <= PIECE
    assert "".join(pieces("x" * 2000)) == "x" * 2000
    assert pieces("") == [""]


def test_the_shipped_head_is_whole() -> None:
    head = SafetyHead.from_json(SHIPPED.read_text(encoding="utf-8"))
    assert {len(one.weights) for one in head.heads.values()} == {384}
    assert {name: head.action(name) for name in head.heads} == {"injection": "block", "harmful": "block"}
