"""Ordinary typing of our own beside the shipped suite: siblings of its cases, and look-alikes near each rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs.pii import find, redact
from data_jobs.pii.units import NameUnits
from train_jobs.evaluation.pii_cases import NONE, Outcome, judge, load_cases

TYPED = Path(__file__).with_name("typed.jsonl")


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [judge(case, redact(case.text)[0]) for case in load_cases(TYPED)]


def test_what_people_type_is_caught_kind_by_kind(outcomes: list[Outcome]) -> None:
    """Most of them were looked at while rules were written: this keeps what was reached."""
    held = [outcome for outcome in outcomes if outcome.case.kind != NONE]
    missed = [(outcome.case.id, outcome.redacted) for outcome in held if not outcome.right]
    assert len(held) >= 600
    assert len(missed) <= 0.03 * len(held), missed
    for kind in {outcome.case.kind for outcome in held}:
        of_kind = [outcome for outcome in held if outcome.case.kind == kind]
        assert sum(outcome.right for outcome in of_kind) >= 0.9 * len(of_kind), kind


def test_what_looks_like_it_stays(outcomes: list[Outcome]) -> None:
    ordinary = [outcome for outcome in outcomes if outcome.case.kind == NONE]
    assert len(ordinary) >= 90
    assert [outcome.redacted for outcome in ordinary if not outcome.right] == []


@pytest.mark.parametrize(
    "text",
    [
        "I don't have my passcode to access the app.", "The wifi password is behind the counter.",
        "our wifi password is nowhere to be found", "my account password is stuck in the old state",
        "Das WLAN-Passwort steht auf dem Router", "mon mot de passe est refusé", "my password is mine",
        "Password: leave blank", "max_password: 4096", "Your wifi password: how to find it",
    ],
)  # fmt: skip
def test_what_is_told_of_a_password_stays(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The ⟦Levenberg Marquardt⟧ algorithm fits the curve.", False),
        ("⟦Newton Raphson⟧ iteration finds the root.", False),
        ("⟦Alzheimer⟧'s disease is not contagious.", False),
        ("⟦Moore⟧'s law holds.", False),
        ("⟦Moore⟧'s car was stolen.", True),
        ("Diesel, ⟦Otto⟧ and Wankel engines differ.", False),
        ("Docker, Helm, ⟦Argo⟧ and Istio run on the cluster.", False),
        ("⟦Ernst Young⟧ audited the books.", False),
        ("⟦Granny Smith⟧, Pink Lady and Golden Delicious are apples.", False),
        ("⟦Hurricane Katrina⟧ caused damage.", False),
        ("storm ⟦Ciara⟧ caused damage.", False),
        ("Table 3: ⟦Baker⟧ 4.2, Miller 3.1 (grinding speed in m/s)", False),
        ("Our colleague ⟦Baker⟧ 4.2 was asked.", True),
        ("| Mode | ⟦Bradley Fixture⟧ |\n| --- | --- |\n| 1 | 2 |", False),
        ("| Module | City |\n| --- | --- |\n| Jasper | ⟦Lublin⟧ |\n", False),
        ("| Module | Owner |\n| --- | --- |\n| Jasper | ⟦Marek⟧ |\n", True),
        ("| Module | City |\n| --- | --- |\n| Jasper | ⟦Marek Nowicki⟧ |\n", True),
        ("⟦Anna Berg⟧ tests the pump.", True),
        ("We met ⟦Anna Kowalski⟧, Guido van Rossum and Carol Jones.", True),
        ("⟦Jack Russell Smith⟧ asked for a refund.", True),
        ("Monday, ⟦Anna⟧ and Ben came.", True),
    ],
)  # fmt: skip
def test_things_that_bear_a_name_are_told_from_persons(text: str, name: bool) -> None:
    start, end = text.index("⟦"), text.index("⟧") - 1
    plain = text.replace("⟦", "").replace("⟧", "")
    assert NameUnits(plain).is_name(start, end) is name
