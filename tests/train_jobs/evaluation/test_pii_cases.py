"""The shipped cases of personal data: their form, what counts as caught, and the goals of the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import BadInputError
from data_jobs.pii import find, redact
from train_jobs.evaluation.pii_cases import CASES, EVASION, NONE, ORDINARY, judge, load_cases, score_cases


def test_enough_cases_of_both_manners_and_no_credential_in_the_file() -> None:
    cases = load_cases()
    assert sum(case.kind != NONE for case in cases) >= 150
    assert sum(case.kind == NONE for case in cases) >= 100
    assert {case.manner for case in cases if case.kind != NONE} == {ORDINARY, EVASION}
    assert cases == load_cases()  # credentials are made up alike each time
    assert "-----BEGIN RSA PRIVATE" not in CASES.read_text(encoding="utf-8")


def test_a_part_that_is_left_is_a_miss_and_a_word_too_many_is_told() -> None:
    (case,) = [case for case in load_cases() if case.id == "card-01"]
    outcomes = [
        judge(case, case.text.replace("4111 1111 1111 1111", said)) for said in ("<CARD_1>", "<CARD_1> 1111", "")
    ]
    assert [outcome.right for outcome in outcomes] == [True, False, True]
    assert not outcomes[0].beyond
    assert judge(case, "<CARD_1>").beyond


def test_the_rules_reach_the_goal_on_both_halves_and_leave_ordinary_texts() -> None:
    result = score_cases({"rules": lambda text: redact(text)[0]}, load_cases())
    for table in result.rates()["rules"].values():
        caught, changed = table["ALL_BUT_PERSON"][ORDINARY], table[NONE]["changed"]
        assert caught.hits >= 0.9 * caught.total
        assert changed.hits <= 0.02 * changed.total


@pytest.mark.parametrize(
    "row", ["{}", '{"id": "a", "kind": "CARD", "manner": "ordinary", "transform": "", "text": "x"}']
)
def test_a_row_without_the_form_is_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(BadInputError, match="cases"):
        load_cases(path)


@pytest.mark.parametrize(
    "text",
    [
        "every dot in the picture", "she works at booking dot com now", "result = query @ key.mt", "100%20 of it",
        "The password is stored server side encrypted.", "password: new user password", "my password is wrong",
    ],
)  # fmt: skip
def test_prose_that_sounds_like_it_stays(text: str) -> None:
    assert find(text) == []
