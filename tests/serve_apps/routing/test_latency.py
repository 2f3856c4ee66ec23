"""How long an answer takes: measured where nothing else went on, since load is counted apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from serve_apps.routing.latency import LATENCY_MEMORY, Latency, TierLoad


async def said(ends: asyncio.Event) -> AsyncGenerator[str, None]:
    """A stream of one item that ends when told to."""
    yield "said"
    await ends.wait()


def test_it_is_the_mean_and_forgets_what_is_long_ago() -> None:
    latency = Latency()
    latency.add(10.0)
    latency.add(20.0)
    assert latency.ms == 15.0
    for _ in range(10 * LATENCY_MEMORY):
        latency.add(100.0)
    assert latency.ms == pytest.approx(100.0, abs=0.1)


@pytest.mark.parametrize(("beside", "measured"), [(0, True), (1, False)])
def test_only_answers_given_alone_are_measured(beside: int, measured: bool) -> None:
    async def scene() -> TierLoad:
        load, ends = TierLoad(), asyncio.Event()

        async def ask() -> list[object]:
            return [item async for item in load.through(said(ends))]

        tasks = [asyncio.create_task(ask()) for _ in range(1 + beside)]
        while load.ongoing < 1 + beside:
            await asyncio.sleep(0)
        ends.set()
        assert await asyncio.gather(*tasks) == [["said"]] * (1 + beside)
        return load

    load = asyncio.run(scene())
    assert load.ongoing == 0
    assert (load.latency.ms > 0) is measured


def test_a_stream_that_broke_is_not_measured() -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "said"
        raise ValueError("broken")

    async def scene() -> TierLoad:
        load = TierLoad()
        with pytest.raises(ValueError, match="broken"):
            async for _ in load.through(broken()):
                pass
        return load

    load = asyncio.run(scene())
    assert (load.ongoing, load.latency.ms) == (0, 0.0)
