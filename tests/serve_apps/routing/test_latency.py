"""What an answer costs: measured where nothing else went on, since load is counted apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from serve_apps.routing.latency import PRICE_MEMORY, Counter, Price


async def said(ends: asyncio.Event) -> AsyncGenerator[str, None]:
    """A stream of one item that ends when told to."""
    yield "said"
    await ends.wait()


def test_a_price_is_the_mean_and_forgets_what_is_long_ago() -> None:
    price = Price()
    price.add(10.0)
    price.add(20.0)
    assert price.ms == 15.0
    for _ in range(10 * PRICE_MEMORY):
        price.add(100.0)
    assert price.ms == pytest.approx(100.0, abs=0.1)


@pytest.mark.parametrize(("beside", "priced"), [(0, True), (1, False)])
def test_only_answers_given_alone_make_the_price(beside: int, priced: bool) -> None:
    async def scene() -> Counter:
        counter, ends = Counter(), asyncio.Event()

        async def ask() -> list[object]:
            return [item async for item in counter.through(said(ends))]

        tasks = [asyncio.create_task(ask()) for _ in range(1 + beside)]
        while counter.ongoing < 1 + beside:
            await asyncio.sleep(0)
        ends.set()
        assert await asyncio.gather(*tasks) == [["said"]] * (1 + beside)
        return counter

    counter = asyncio.run(scene())
    assert counter.ongoing == 0
    assert (counter.price.ms > 0) is priced


def test_a_stream_that_broke_has_no_price() -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "said"
        raise ValueError("broken")

    async def scene() -> Counter:
        counter = Counter()
        with pytest.raises(ValueError, match="broken"):
            async for _ in counter.through(broken()):
                pass
        return counter

    counter = asyncio.run(scene())
    assert (counter.ongoing, counter.price.ms) == (0, 0.0)
