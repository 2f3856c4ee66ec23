"""Metrics against values computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train_jobs.evaluation.metrics import Rate, accepted_in_text, contains_gold, first_accepted, names_in_text, wilson

ALIASES = {"os.path.join": ("posixpath.join", "ntpath.join"), "zip": ()}


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81/263 -> 0.2553-0.3662; 15/148 -> 0.0624-0.1605; 0/20 -> 0-0.1611; 1/29 -> 0.0061-0.1718
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 hits of 2"):
        wilson(3, 2)


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilson_holds_the_rate(hits: int, misses: int) -> None:
    low, high = wilson(hits, hits + misses)
    assert 0 <= low <= high <= 1
    if hits + misses:
        assert low <= hits / (hits + misses) + 1e-12
        assert high >= hits / (hits + misses) - 1e-12


def test_rate() -> None:
    rate = Rate.of([True, False, True, True])
    assert (rate.hits, rate.total, rate.value) == (3, 4, 0.75)
    assert Rate.of([]).value is None
    assert rate.to_dict()["rate"] == 0.75


def test_aliases_count_as_the_same_thing() -> None:
    assert first_accepted(["zip", "os.path.join"], ["posixpath.join"], ALIASES) == 1
    assert first_accepted(["zip"], ["posixpath.join"], ALIASES) is None


def test_names_in_text_are_whole_names() -> None:
    assert names_in_text("Use json.loads or json.", ["json", "json.loads", "json.load"]) == {"json", "json.loads"}
    assert names_in_text("Use json.loads", ["json", "loads"]) == set()
    assert names_in_text("my.zip, zipper", ["zip"]) == set()


def test_accepted_in_text() -> None:
    assert accepted_in_text('os.path.join — "Join." [1]', ["os.path.join"], ["posixpath.join"], ALIASES)
    assert not accepted_in_text("os.path.join [1]", ["zip"], ["posixpath.join"], ALIASES)  # named but not cited
    assert accepted_in_text("posixpath.join [1]", [], ["posixpath.join"], ALIASES)
    assert not accepted_in_text('print — "Emits warnings." [1]', ["print"], ["warnings"], ALIASES)
    assert accepted_in_text('warnings — "Python part." [1]', ["warnings"], ["warnings"], ALIASES)


def test_gold_answers() -> None:
    assert contains_gold('"It lies in the north of France." [1]', ["north of france"])
    assert contains_gold("The 10th century", ["a 10th-century", "the 10th century"])
    assert not contains_gold("a Frenchman", ["French"])
    assert not contains_gold("anything", ["the"])
