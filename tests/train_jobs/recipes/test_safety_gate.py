"""From decisions to the heads that the guard uses: what judges is not learnt from, the better ones go live, a worse one
does not, and all of it can be taken back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core.config import configured
from cluster.core.errors import BadInputError
from cluster.core.presets import preset
from cluster.core.progress import Silent
from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.safety.in_force import before, in_force, of_version, roll_back, shipped
from tests.train_jobs.recipes.test_safety import rows
from train_jobs.recipes.safety import train_safety
from train_jobs.recipes.safety_gate import REPORT, split, wording

WORDS = ("zork", "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "process", "mike")


def embed(texts: Sequence[str]) -> np.ndarray:
    found = np.array([[text.lower().count(word) for word in WORDS] for text in texts], dtype=float)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1))


def many(text: str, count: int, label: str, name: str) -> list[dict[str, Any]]:
    """Rows whose letters differ, as those of people do."""
    part = {"slice": "look_alike"} if label == "benign" else {}
    return [
        {"text": f"{text} {chr(97 + i // 26)}x{chr(97 + i % 26)}", "label": label, "set": name, **part}
        for i in range(count)
    ]


ATTACKS = many("mike zork", 80, "harmful", "review-2027-01")
FINE = many("mike delta", 80, "benign", "review-2027-01")
PROCESSES = many("zork process", 80, "benign", "review-2027-02")


def trained(tmp_path: Path, found: list[dict[str, Any]], name: str = "safety") -> tuple[Store, Manifest]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    store = Store(str(tmp_path / "store"))
    config = configured(preset("laptop"), [])
    return store, train_safety(config, store, str(path), name, Silent(), embed=("asks", embed))


def test_the_better_heads_go_live_a_worse_one_does_not_and_each_can_be_taken_back(tmp_path: Path) -> None:
    store, made = trained(tmp_path, [*rows("zork"), *ATTACKS, *FINE])
    assert made.counts["passed"], store.read_json(f"{store.artefact(made)}/{REPORT}")["decision"]
    assert made.inputs["before"] == shipped().reference, "its vectors are others: it finds nothing in these"
    first = in_force(store)
    assert made.inputs["heads"] == first.reference
    (harmful,) = first.head.scores(embed(["zork process"]))["harmful"]
    assert harmful > first.head.heads["harmful"].threshold, "what people call harmless is flagged"

    learnt = [*rows("zork"), *ATTACKS, *FINE, *PROCESSES]
    _, made = trained(tmp_path, learnt)
    assert (made.counts["passed"], made.inputs["before"]) == (True, first.reference)
    assert made.counts["before"]["flagged"] > 0.4
    assert made.counts["after"] == {"missed": 0.0, "flagged": 0.0}
    second = in_force(store)
    assert trained(tmp_path, learnt)[1] == made, "it is not held against itself"

    wrong = many("process zork", 300, "harmful", "bad_advice")
    _, made = trained(tmp_path, [*learnt, *wrong])
    decision = store.read_json(f"{store.artefact(made)}/{REPORT}")["decision"]
    assert not made.counts["passed"]
    assert "flags in vain" in decision["reason"]
    assert "(before 0.0%)" in decision["reason"]
    assert in_force(store) == second

    for expected in (first, shipped()):
        assert before(store) == expected
        roll_back(store)
        assert in_force(store) == expected
    with pytest.raises(BadInputError, match="shipped heads are in force"):
        before(store)
    with pytest.raises(BadInputError, match="no earlier"):
        roll_back(store)


def test_decisions_that_judge_are_not_learnt_from_wherever_they_stand() -> None:
    elsewhere = [{**row, "text": row["text"].upper() + "!! 17", "set": "mine"} for row in ATTACKS]
    learnt, held = split([*ATTACKS, *elsewhere, *FINE])
    assert 20 <= len(held) <= 100
    assert {row["label"] for row in held} == {"harmful", "benign"}
    assert not {wording(row["text"]) for row in learnt} & {wording(row["text"]) for row in held}
    assert len([row for row in learnt if row["set"] == "mine"]) == len([row for row in learnt if row in ATTACKS]) > 0
    assert split([*PROCESSES, *ATTACKS])[1][-1] in held, "a decision keeps its side in every export"
    assert split([*ATTACKS, {**held[0], "label": "benign"}])[1][0]["label"] == "benign", "the last word counts"


def test_too_few_decisions_decide_nothing_and_without_any_nothing_is_judged(tmp_path: Path) -> None:
    store, made = trained(tmp_path, rows("zork"))
    assert (made.kind, in_force(store)) == ("safety", shipped())
    _, made = trained(tmp_path, [*rows("zork"), *ATTACKS[:20], *FINE])
    decision = store.read_json(f"{store.artefact(made)}/{REPORT}")["decision"]
    assert not made.counts["passed"]
    assert "too few held-out decisions that a text is harmful" in decision["reason"]
    _, made = trained(tmp_path, [*rows("zork"), *ATTACKS, *FINE], name="other")
    assert (made.kind, in_force(store)) == ("safety", shipped()), "the guard follows one name"
    assert of_version(store, store.alias("safety", "safety", "latest") or "").head.embedder == "asks"
