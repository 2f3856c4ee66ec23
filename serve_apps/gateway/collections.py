"""The collections as a gateway knows them: what there is, and which one a request means."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from cluster.core.identity import Principal
from serve_apps.errors import UnavailableError, collection_not_found
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.rights import as_seen, sees

FRESH_S = 0.5  # how old a list may be that says a collection is not there


class KnownCollections:
    """What the retriever last said of the collections. It alone decides: a name that it gave away since, it refuses.
    Where a policy holds for some collections only, a request that names none gets the default's name before any guard
    sees it, so that leaving the name out evades nothing."""

    def __init__(self, hops: Hops) -> None:
        self._hops, self._always = hops, hops.policies.by_collection
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

    async def seen_by(self, principal: Principal) -> list[dict[str, Any]]:
        """What a key is told of every collection that it may ask; the first where it may not ask the default one is
        what it asks by default.

        Raises:
            UnavailableError: the retriever does not say.
        """
        return _seen(await self.cards(), principal)

    async def last_seen_by(self, principal: Principal) -> list[dict[str, Any]]:
        """The same; what was known before where the retriever does not say."""
        try:
            return await self.seen_by(principal)
        except UnavailableError:
            return _seen(self._cards, principal)

    async def choose(self, name: str, record: RequestRecord, param: str) -> None:
        """Note in a request's record which collection it means and which field says so; an empty name is the default's,
        or where the key may not ask that one the first that it may. Asks nobody about a name that was there before.

        Raises:
            ApiError: 404, there is no such collection for this key; ``param`` names the field it was named in.
            UnavailableError: the retriever does not say.
        """
        if name or record.principal.collections or self._always:
            seen = _seen(self._cards, record.principal) if name else []
            if (found := _meant(name, seen)) is None:
                seen = await self.seen_by(record.principal)
                found = _meant(name, seen)
            if found is None and not name and not record.principal.collections:
                found = ""  # there is none yet: the search says so
            if found is None:
                raise collection_not_found(name or record.principal.collections[0], _names(seen), param)
            name = found
        record.collection, record.collection_param = name, param


def _seen(cards: list[dict[str, Any]], principal: Principal) -> list[dict[str, Any]]:
    return [as_seen(card, principal) for card in cards if sees(card, principal)]


def _meant(name: str, seen: list[dict[str, Any]]) -> str | None:
    """The collection of this name; without one the default, by its name (which is the default may change meanwhile),
    or the first. None: there is none."""
    if name:
        return name if name in _names(seen) else None
    return next(iter(_names([card for card in seen if card["default"]] or seen)), None)


def _names(cards: list[dict[str, Any]]) -> list[str]:
    return [str(card["collection"]) for card in cards]
