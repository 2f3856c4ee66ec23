"""plinth eval run --suite alike: who may be given whose answer, what counts as worse, and one small run of it all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.cli.evaluation import alike
from cluster.cli.evaluation.alike import alone, as_served
from cluster.cli.main import main
from cluster.core.records import Answer
from data_jobs.retrieval.results import Retrieval, WindowReading
from tests.fakes import CITATION, PASSAGE
from train_jobs.evaluation.faq import Outcome
from train_jobs.evaluation.paraphrases import APART

A, B = (replace(CITATION, document=name, chunk=f"{name}#0") for name in "ab")


def outcome(question: str, label: str = "a", **made: Any) -> Outcome:
    answer = Answer(**{"text": "It opens at nine. [1]", "citations": (A,), **made})
    return Outcome(question, label, Retrieval(question), answer, np.array([1.0, 0.0], dtype=np.float32))


FIRST = outcome("When does it open?")


@pytest.mark.parametrize(
    ("second", "any_answer", "served"),
    [
        (outcome("At what time does it open?"), True, True),
        (outcome("When does it open on Sunday?"), True, False),
        (outcome("At what time does it open?", text="It opens at ten. [1]"), True, False),
        (outcome("At what time does it open?", citations=(B,)), True, False),
        (outcome("At what time does it open?", grounded=False, reason="low_support"), False, False),
    ],
)
def test_who_is_given_whose_answer(second: Outcome, any_answer: bool, served: bool) -> None:
    for held, given in ((alone([FIRST, second]), any_answer), (as_served([FIRST, second]), served)):
        assert held.cosines[0, 1] == (1.0 if given else APART)
    assert alone([FIRST, second]).cosines[1, 0] == 1.0, "what is asked may be anything"


def test_the_reader_may_doubt_it() -> None:
    read = Retrieval("?", (replace(PASSAGE, chunk="a#0"),), readings=(WindowReading(0, 0, 9, 0.4, 0, 5, 1.0),))
    doubted = replace(outcome("At what time does it open?"), found=read)
    assert as_served([FIRST, doubted]).cosines[1, 0] == APART


def test_worse_is_what_a_question_would_have_been_told_better_itself() -> None:
    right, wrong, lost = outcome("one"), outcome("two", citations=(B,)), outcome("three", label="c")
    held = alone([right, wrong, lost])
    assert held.worse is not None
    assert held.worse.tolist() == [[False, True, False], [False] * 3, [False] * 3]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no"),
        ({"train": [{"text": "a"}]}, "text and label"),
        ({"train": [{"text": "a", "label": "elsewhere"}]}, "no section has the label elsewhere"),
    ],
)
def test_wrong_data_are_named(
    files: dict[str, Any], said: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["eval", "run", "--suite", "alike", "--data", str(tmp_path)]) == 3
    assert said in " ".join("".join(capsys.readouterr()).split())


@pytest.mark.slow
def test_a_small_run(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sections.md").write_text(
        "## hours: Opening hours\nThe pool opens at nine in the morning and closes at eight in the evening.\n"
        "## price: Tickets\nA ticket costs four euros. Children under six years pay nothing.\n"
    )
    asked = {
        "hours": ["When does the pool open?", "At what time does the pool open?", "Please, when does the pool open?"],
        "price": ["What does a ticket cost?", "How much does a ticket cost?", "What does one ticket cost?"],
    }
    rows = [{"text": text, "label": label} for label, texts in asked.items() for text in texts]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(alike, "REQUESTS", 12)
    monkeypatch.setattr(alike, "REPEATS", (0.75,))
    monkeypatch.setattr(alike, "SEED", 1)
    command = ["eval", "run", "--suite", "alike", "--data", str(tmp_path), "--set", "serve.cache.alike=0.7"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["right_section"]["test"]["rate"] == 1.0
    curves = {way: {p["alike"]: p for p in found["curves"]["judged_on"]} for way, found in result["ways"].items()}
    assert curves["likeness alone"][0.7]["hits"]["hits"] >= curves["as served"][0.7]["hits"]["hits"] >= 2
    assert curves["as served"][0.7]["wrong"]["hits"] == 0
    (stream,) = result["streams"]
    assert stream["hits"]["hits"] > 12 * 0.5
    assert stream["ms"]["mean_hit"] < stream["ms"]["mean_other"]
    assert Path(result["plot"]).read_bytes().startswith(b"\x89PNG")
