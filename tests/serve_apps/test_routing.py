"""Decisions with reasons, and waiting that fails closed."""

from __future__ import annotations

import asyncio

import pytest

from serve_apps.errors import ApiError, UnavailableError, shown
from serve_apps.routing import RouteDecision, route
from serve_apps.waiting import or_unavailable, together


@pytest.mark.parametrize(
    ("model", "tiers", "expected"),
    [
        ("quote", ("quote",), RouteDecision("quote", "requested")),
        ("auto", ("quote",), RouteDecision("quote", "only_tier")),
        ("auto", ("small", "quote"), RouteDecision("small", "default_tier")),
        ("quote", ("small", "quote"), RouteDecision("quote", "requested")),
    ],
)
def test_route(model: str, tiers: tuple[str, ...], expected: RouteDecision) -> None:
    assert route(model, tiers) == expected


def test_route_refuses() -> None:
    with pytest.raises(ApiError) as unknown:
        route("gpt-4o", ("quote",))
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
