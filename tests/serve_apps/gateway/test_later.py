"""What no request waits for: written in batches that are apart, and at once where somebody wants to read it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serve_apps.gateway.later import Later


def test_batches_are_apart_until_somebody_wants_what_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_apps.gateway.later.APART_S", 600.0)
    batches = list[list[int]]()

    def write(batch: Sequence[int]) -> None:
        batches.append(list(batch))

    later = Later[int](write, "numbers")

    async def scene() -> None:
        later.put(0)
        await asyncio.wait({later._task} if later._task else ())
        assert batches == [[0]], "the first one waits for nobody"
        later.put(1)
        later.put(2)
        await later.settled()
        assert batches == [[0], [1, 2]]

    async def in_another_loop() -> None:
        later.put(3)
        await later.settled()
        assert batches[-1] == [3]

    asyncio.run(asyncio.wait_for(scene(), 20))
    asyncio.run(asyncio.wait_for(in_another_loop(), 20))
