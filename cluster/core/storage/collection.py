"""Collections: indexes that answer under their names, and which of them answers a request that names none.

A collection is an index with a ``live`` version. Which one is the default is a choice of its own, in one file of the
store: building or removing another collection never moves it.
"""

from __future__ import annotations

import json
from typing import Any

from cluster.core.errors import BadInputError
from cluster.core.storage.files import NAME, utc_now
from cluster.core.storage.store import Store

INDEXES, LIVE = "indexes", "live"


class Collections:
    """The collections of a store.

    Args:
        first: the collection that is the default while nobody chose one (``index.name``).
    """

    def __init__(self, store: Store, first: str) -> None:
        self._store, self._first = store, first
        self._chosen_path = store.path("collections", "default.json")

    def version(self, name: str) -> str | None:
        """The live version of a collection; None where there is none of this name, or the name can be none."""
        return self._store.alias(INDEXES, name, LIVE) if NAME.fullmatch(name) and ".." not in name else None

    @property
    def names(self) -> list[str]:
        """Every collection, sorted."""
        return [name for name in self._store.names(INDEXES) if self.version(name)]

    @property
    def default(self) -> str:
        """The collection of requests that name none: the one chosen, else ``first``, else the only one there is."""
        for name in (self._chosen(), self._first):
            if name and self.version(name):
                return name
        names = self.names
        return names[0] if len(names) == 1 else self._first

    def find(self, name: str = "") -> str:
        """The collection of this name; the default for an empty one.

        Raises:
            BadInputError: there is none; the message lists those there are.
        """
        found = name or self.default
        if self.version(found):
            return found
        known = self.names
        if not known:
            raise BadInputError("there is no collection yet: run `plinth quickstart` or `plinth index build` first")
        raise BadInputError(f"there is no collection {found!r}; there are: {', '.join(known)}", known=known)

    def use(self, name: str, why: str) -> str:
        """Make a collection the default; returns the one that was it before.

        Raises:
            BadInputError: there is no collection of this name.
        """
        before, name = self.default, self.find(name)
        if before == name:
            return before
        chosen: dict[str, Any] = {"name": name, "at": utc_now(), "why": why}
        self._store.write(self._chosen_path, json.dumps(chosen, indent=1).encode())
        return before

    def go_live(self, name: str, version: str, why: str) -> None:
        """Make a published version of an index what its collection answers from. The first collection becomes the
        default; none ever takes that from another.

        Raises:
            BadInputError: there is no such version.
        """
        before = self.default
        keep = before if self.version(before) else name
        self._store.move_alias(INDEXES, name, LIVE, version, why)
        if self.default != keep:
            self.use(keep, why)

    def _chosen(self) -> str:
        if not self._store.exists(self._chosen_path):
            return ""
        return str(self._store.read_json(self._chosen_path)["name"])
