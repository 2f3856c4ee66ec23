"""The collections as a gateway knows them: what there is, and which one a request means."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from serve_apps.errors import UnavailableError, collection_not_found
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.request_log import RequestRecord

FRESH_S = 0.5  # how old a list may be that says a collection is not there


class KnownCollections:
    """What the retriever last said of the collections. It alone decides: a name that it gave away since, it refuses."""

    def __init__(self, hops: Hops) -> None:
        self._hops = hops
        self._cards: list[dict[str, Any]] = []
        self._asked_at = -math.inf
        self._asking: asyncio.Task[list[dict[str, Any]]] | None = None

    async def cards(self) -> list[dict[str, Any]]:
        """What is known of every collection, at most ``FRESH_S`` old.

        Raises:
            UnavailableError: the retriever does not say.
        """
        if time.monotonic() - self._asked_at >= FRESH_S:
            if self._asking is None or self._asking.done():  # who comes meanwhile waits for the same answer
                self._asking = asyncio.get_running_loop().create_task(self._hops.collections())
            self._cards = await asyncio.shield(self._asking)
            self._asked_at = time.monotonic()
        return self._cards

    async def last_known(self) -> list[dict[str, Any]]:
        """The same; what was known before where the retriever does not say."""
        try:
            return await self.cards()
        except UnavailableError:
            return self._cards

    async def choose(self, name: str, record: RequestRecord, param: str) -> None:
        """Note in a request's record which collection it means and which field says so; an empty name is the default's.
        Asks nobody about a name that was there before.

        Raises:
            ApiError: 404, there is no such collection; ``param`` names the field it was named in.
            UnavailableError: the retriever does not say.
        """
        if name and name not in _names(self._cards):
            known = _names(await self.cards())
            if name not in known:
                raise collection_not_found(name, known, param)
        record.collection, record.collection_param = name, param


def _names(cards: list[dict[str, Any]]) -> list[str]:
    return [str(card["collection"]) for card in cards]
