"""Decisions with reasons, and waiting that fails closed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from serve_apps.errors import ApiError, UnavailableError, shown
from serve_apps.gateway.protocols import Band, TierState
from serve_apps.gateway.waiting import or_unavailable, together
from serve_apps.routing.rules import Features, route

BANDS = (Band(0.0, 0.5, 40, 0.30, 0.40), Band(0.5, 1.0, 60, 0.80, 0.60))
QUOTE = TierState("quote", fallback=True, latency_ms=5.0)
SMALL = TierState("small", latency_ms=20.0, bands=BANDS, capacity=8)
REFUSED = replace(SMALL, earned=False)
ABSENT = replace(SMALL, ready=False, earned=False)


@pytest.mark.parametrize(
    ("model", "tiers", "features", "tier", "reason"),
    [
        ("quote", (QUOTE, SMALL), Features(), "quote", "requested"),
        ("small", (QUOTE, REFUSED), Features(), "small", "requested"),
        ("auto", (QUOTE,), Features(), "quote", "only_tier"),
        ("auto", (QUOTE, REFUSED), Features(0.9), "quote", "only_tier"),
        ("auto", (QUOTE, ABSENT), Features(0.9), "quote", "only_tier"),
        ("auto", (QUOTE, SMALL), Features(0.9), "small", "measured_better"),
        ("auto", (QUOTE, SMALL), Features(0.2), "quote", "measured_better"),
        ("auto", (QUOTE, SMALL), Features(0.9, supported=False), "quote", "unsupported"),
        ("auto", (QUOTE, SMALL), Features(0.9, names_document=True), "quote", "names_document"),
        ("auto", (QUOTE, replace(SMALL, checked=True)), Features(0.9, form=True), "quote", "form"),
        ("auto", (QUOTE, SMALL), Features(0.9, form=True), "small", "measured_better"),  # it writes what it likes
    ],
)
def test_route(model: str, tiers: tuple[TierState, ...], features: Features, tier: str, reason: str) -> None:
    decision = route(model, tiers, features)
    assert (decision.tier, decision.reason) == (tier, reason)


def test_as_good_means_the_cheaper_and_load_turns_the_choice() -> None:
    equal = replace(SMALL, bands=(Band(0.0, 1.01, 100, 0.60, 0.61),))
    cheap = route("auto", (QUOTE, equal), Features(0.9))
    assert (cheap.tier, cheap.reason) == ("quote", "cheaper_as_good")
    assert cheap.considered == {"quote": {"score": 0.61, "wait_ms": 5.0}, "small": {"score": 0.6, "wait_ms": 20.0}}
    busy = route("auto", (replace(QUOTE, ongoing=9), equal), Features(0.9))
    assert (busy.tier, busy.reason) == ("small", "less_loaded")


def test_among_equals_the_lower_price_wins_whatever_the_wait() -> None:
    equal = replace(SMALL, bands=(Band(0.0, 1.01, 100, 0.60, 0.61),))
    priced = route("auto", (replace(QUOTE, price=2.0), replace(equal, price=1.0)), Features(0.9))
    assert (priced.tier, priced.reason) == ("small", "cheaper_as_good")
    better = replace(SMALL, price=9.0)
    assert route("auto", (QUOTE, better), Features(0.9)).tier == "small", "a price does not make a tier better"


def test_tiers_are_told_apart_by_what_they_are_not_by_name() -> None:
    words = replace(QUOTE, name="words")
    assert route("auto", (words, SMALL), Features(0.9, supported=False)).tier == "words"
    without = (replace(QUOTE, name="quote", fallback=False, earned=False), SMALL)
    assert route("auto", without, Features(0.9, supported=False)).tier == "small"
    unmeasured = (replace(SMALL, bands=()), replace(SMALL, name="large", bands=(), latency_ms=9.0))
    assert route("auto", unmeasured, Features(0.9)).tier == "large"


def test_a_thin_band_says_nothing_and_all_bands_together_decide() -> None:
    thin = (Band(0.0, 0.5, 90, 0.2, 0.6), Band(0.5, 1.0, 3, 1.0, 0.0))
    assert route("auto", (QUOTE, replace(SMALL, bands=thin)), Features(0.9)).tier == "quote"
    unmeasured = route("auto", (QUOTE, replace(SMALL, bands=())), Features(0.9))
    assert (unmeasured.tier, unmeasured.reason) == ("quote", "measured_better")


def test_route_refuses() -> None:
    for tiers in ((QUOTE,), (QUOTE, ABSENT)):
        with pytest.raises(ApiError) as unknown:
            route("small", tiers)
        assert (unknown.value.status, unknown.value.extras["code"]) == (404, "model_not_found")
    with pytest.raises(UnavailableError):
        route("auto", ())


def test_a_clients_own_string_is_harmless_in_a_message() -> None:
    assert shown("a\n\x1b[2J\ud800é" + "x" * 500).isascii()
    assert len(shown("x" * 500)) < 100


def test_together_cancels_the_other_and_raises_the_plain_error() -> None:
    cancelled = []

    async def failing() -> None:
        raise UnavailableError("down")

    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    with pytest.raises(UnavailableError, match="down"):
        asyncio.run(together(waiting(), failing()))
    assert cancelled == [True]


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), ConnectionResetError(), asyncio.CancelledError()])
def test_whatever_goes_wrong_counts_as_unavailable(error: BaseException) -> None:
    async def failing() -> None:
        raise error

    with pytest.raises(UnavailableError, match="the guard"):
        asyncio.run(or_unavailable(failing(), 1.0, "the guard"))


def test_too_slow_counts_as_unavailable_and_is_cancelled() -> None:
    cancelled = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def scene() -> None:
        with pytest.raises(UnavailableError, match=r"within 0\.01 s"):
            await or_unavailable(slow(), 0.01, "the guard")
        await asyncio.sleep(0)
        assert cancelled == [True]

    asyncio.run(scene())
