"""A model that writes against those that need not: who takes the name is decided on the same questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.policies.gate import decide
from cluster.core.sections.train import GateSection
from train_jobs.answering.chat import NOT_KNOWN
from train_jobs.evaluation.generate import Said
from train_jobs.evaluation.held_out import Heard
from train_jobs.evaluation.written import compare, hear_writer

SECTION = GateSection(questions=60, unanswerable=30)
QUICK = {"prompt_tokens": 600, "first_token_s": 0.7, "tokens_per_s": 20.0}
TOWNS = ("Albury", "Bemfort", "Carrow", "Dunmere", "Elvaston")
TOLD = (
    "The mill of {town} was built in {year}.", "Fire destroyed both harbour cranes during {year}.",
    "A railway reached this valley by {year}.", "The oldest church burned down, they say, around {year}.",
)  # fmt: skip


def made_rows() -> list[dict[str, Any]]:
    """Questions for a year whose sentence is one of four; the quote tier finds it in half of the cases."""
    made = []
    for number in range(90):
        known = number < 60
        texts = [text.format(town=TOWNS[number % 5], year=1700 + 3 * number + at) for at, text in enumerate(TOLD)]
        right = number % 4
        made.append({
            "kind": "own" if known else "left_out", "question": f"When was mill {number} built?", "prompt": str(number),
            "gold_sentence": texts[right] if known else "", "document": f"doc{number}-{right}" if known else "",
            "answerable": known, "baseline": texts[(right + 1) % 4], "support": 0.7, "supported": number % 15 != 14,
            "sentences": texts, "documents": [f"doc{number}-{at}" for at in range(4)],
            "evidence": [{"heading": "Mills", "text": text} for text in texts],
            "quote": {"text": "", "sentence": texts[right if number % 2 else (right + 2) % 4], "grounded": True,
                      "document": f"doc{number}-{right if number % 2 else (right + 2) % 4}"},
        })  # fmt: skip
    return made


ROWS = made_rows()


def report(write: Callable[[dict[str, Any]], str], pointing: Heard | None = None, pace: Any = None) -> dict[str, Any]:
    by_prompt = {row["prompt"]: row for row in ROWS}
    writer, counts = hear_writer(
        ROWS, lambda prompts: [Said(write(by_prompt[one])) for one in prompts], lambda row: row["prompt"]
    )
    return compare(ROWS, writer, counts, pointing, QUICK if pace is None else pace)


def right_or_refusing(row: dict[str, Any]) -> str:
    if not row["answerable"]:
        return NOT_KNOWN
    at = row["sentences"].index(row["gold_sentence"])
    return f"{row['gold_sentence']} [{at + 1}]"


def test_a_writer_that_is_right_and_knows_when_it_is_not_takes_the_name() -> None:
    found = report(right_or_refusing, Heard([[0]] * len(ROWS), [None] * len(ROWS), {"p50": 3.0}))
    writer, pointing, quote = (found["contenders"][name] for name in ("writer", "pointing", "quote"))
    assert (writer["right"], writer["named"], writer["abstained"]) == (
        pytest.approx(56 / 60),
        pytest.approx(56 / 60),
        1.0,
    )
    assert quote["right"] == pytest.approx(0.5)
    assert (pointing["right"], pointing["abstained"], pointing["ms"]) == (pytest.approx(0.25), 0.0, 3.0)
    assert found["written"]["unsupported"] == 0
    assert found["written"]["own"] == 56, "it is not asked where the passages support nothing"
    gate = decide(found, SECTION)
    assert gate.passed, gate.reason
    assert {"beats_quote", "beats_pointing", "first_token"} <= {check.name for check in gate.checks}


def test_one_that_is_no_better_than_the_pointing_model_does_not() -> None:
    points: list[list[int] | None] = [
        [row["sentences"].index(row["gold_sentence"])] if row["answerable"] else [] for row in ROWS
    ]
    found = report(right_or_refusing, Heard(points, [None] * len(ROWS), {"p50": 3.0}))
    gate = decide(found, SECTION)
    assert not gate.passed
    assert [check.name for check in gate.checks if not check.passed] == ["beats_pointing"]


def test_what_it_invents_is_counted_and_does_not_pay() -> None:
    found = report(lambda row: right_or_refusing(row).replace(" 1", " 2"))
    assert found["written"]["unsupported"] == 1.0
    assert found["written"]["own"] == 0
    assert found["contenders"]["writer"]["right"] == pytest.approx(56 / 60), "the quotation stands for it"
    assert found["contenders"]["writer"]["abstained"] == 1.0
    loose = report(lambda row: "The mill was built in 1999.")
    assert loose["contenders"]["writer"]["answered"] == 0
    assert loose["answerable"]["unreadable"] > 0.5


@pytest.mark.parametrize("pace", [{"first_token_s": 1.4}, {"first_token_s": float("nan")}, {}])
def test_one_that_is_slow_or_was_not_measured_does_not_pass(pace: dict[str, float]) -> None:
    gate = decide(report(right_or_refusing, pace=pace), SECTION)
    assert [check.name for check in gate.checks if not check.passed] == ["first_token"]
    unasked = SECTION.model_copy(update={"max_first_token_s": None})
    assert decide(report(right_or_refusing, pace=pace), unasked).passed


def test_a_comparison_that_was_not_made_fails() -> None:
    found = report(right_or_refusing)
    gate = decide({**found, "against": {}}, SECTION)
    assert [check.name for check in gate.checks if not check.passed] == ["beats_quote"]
