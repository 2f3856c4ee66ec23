"""Which tier comes after which, when there is time for it, and which answers are doubted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.records import Answer
from cluster.core.sections.cascade import CascadeSection
from data_jobs.retrieval.results import Retrieval, WindowReading
from serve_apps.gateway.protocols import Band, TierState
from serve_apps.routing.cascade import DOUBTS, doubt, next_tier, obstacle
from tests.fakes import CITATION, PASSAGE

ON = CascadeSection()


def tier(name: str, price: float = 0.0, score: float = 0.6, **more: object) -> TierState:
    bands = (Band(0.0, 1.01, 100, score, 0.4),) if score else ()
    return replace(TierState(name, continues=True, latency_ms=100.0, price=price, bands=bands), **more)  # type: ignore[arg-type]


QUOTE = TierState("quote", fallback=True, latency_ms=5.0)
SMALL, MEDIUM, LARGE = tier("small", 1.0), tier("medium", 2.0, 0.7), tier("large", 10.0, 0.8)
ALL = (LARGE, QUOTE, MEDIUM, SMALL)


@pytest.mark.parametrize(
    ("chosen", "tiers", "expected"),
    [
        (QUOTE, ALL, "small"),
        (SMALL, ALL, "medium"),
        (MEDIUM, ALL, "large"),
        (LARGE, ALL, None),
        (SMALL, (QUOTE, SMALL), None),
        (SMALL, (SMALL, replace(MEDIUM, asleep=True), LARGE), "large"),
        (SMALL, (SMALL, replace(MEDIUM, earned=False)), None),
        (SMALL, (SMALL, replace(MEDIUM, ready=False)), None),
        (SMALL, (SMALL, replace(MEDIUM, external=True)), None),
        (SMALL, (SMALL, tier("worse", 2.0, 0.5)), None),
        (tier("a", 1.0, 0.6), (tier("a", 1.0, 0.6), tier("b", 1.0, 0.7)), "b"),
    ],
)
def test_the_next_tier_is_the_next_larger_one_that_auto_may_take(
    chosen: TierState, tiers: tuple[TierState, ...], expected: str | None
) -> None:
    found = next_tier(chosen, tiers, ON)
    assert (found.name if found else None) == expected


def test_switch_price_and_rights_bound_it() -> None:
    assert next_tier(SMALL, ALL, CascadeSection(on=False)) is None
    assert next_tier(MEDIUM, ALL, CascadeSection(most_price=9.0)) is None
    after = next_tier(SMALL, ALL, ON, ("small", "large"))
    assert after is not None
    assert after.name == "large", "a key may not be led to a tier that it may not ask"


def test_only_what_is_usually_ready_in_time_is_asked() -> None:
    assert obstacle(MEDIUM, 101.0) == ""
    assert obstacle(MEDIUM, 100.0) == "no_time"
    assert obstacle(replace(MEDIUM, ongoing=3), 350.0) == "no_time", "those in front of it count"
    assert obstacle(replace(MEDIUM, latency_ms=0.0), 1e9) == "unmeasured"


def test_answers_that_another_model_might_give_are_doubted() -> None:
    plain = Retrieval("q", (PASSAGE,))
    for reason in DOUBTS:
        assert doubt(Answer("", grounded=False, reason=reason), plain, SMALL) == reason
    for reason in ("no_passages", "unknown_terms", "low_support", "unknown_language"):
        assert doubt(Answer("", grounded=False, reason=reason), plain, SMALL) == "", "no passage answers it"
    assert doubt(Answer("text", (CITATION,)), plain, SMALL) == ""


def test_an_answer_beside_the_place_that_the_reader_is_sure_of_is_doubted() -> None:
    other = replace(PASSAGE, chunk="other#0", document="other")
    sure = WindowReading(0, 0, 71, 0.95, 0, 20, 1.0)
    found = Retrieval("q", (PASSAGE, other), readings=(sure,))
    cites_it, cites_other = Answer("x", (CITATION,)), Answer("x", (replace(CITATION, chunk="other#0"),))
    assert doubt(cites_it, found, SMALL) == ""
    assert doubt(cites_other, found, SMALL) == "beside_reader"
    assert doubt(cites_other, found, QUOTE) == "", "it quotes by what the reader said"
    assert doubt(cites_other, replace(found, readings=(replace(sure, answerable=0.8),)), SMALL) == ""
