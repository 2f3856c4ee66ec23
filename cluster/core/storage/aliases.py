"""Movable names for versions, each with its history."""

from __future__ import annotations

import json
from collections.abc import Callable

from cluster.core.errors import BadInputError
from cluster.core.storage.files import check_name, utc_now
from cluster.core.storage.locks import Locks

MANIFEST = "manifest.json"


class Aliases(Locks):
    """The aliases of artefacts: ``latest``, ``live``, ``champion``."""

    def alias_path(self, kind: str, name: str, alias: str) -> str:
        """The file that an alias and its history are in, whether it is there or not.

        Raises:
            UsageError: a name that cannot be used.
        """
        return self.path(kind, check_name(name), "aliases", f"{check_name(alias)}.json")

    def alias(self, kind: str, name: str, alias: str) -> str | None:
        """The version an alias points to, or None."""
        history = self.alias_history(kind, name, alias)
        return history[-1]["version"] if history else None

    def alias_history(self, kind: str, name: str, alias: str) -> list[dict[str, str]]:
        """Every move of an alias, oldest first: ``{"version", "at", "why"}``."""
        path = self.alias_path(kind, name, alias)
        return self.read_json(path)["history"] if self.exists(path) else []

    def move_alias(self, kind: str, name: str, alias: str, version: str, why: str) -> None:
        """Point an alias at a published version. Atomic; the history keeps the last 100 moves."""

        def append(history: list[dict[str, str]]) -> list[dict[str, str]]:
            if history and history[-1]["version"] == version:
                return history
            return [*history, {"version": version, "at": utc_now(), "why": why}]

        self._require_published(kind, name, version)
        self._edit_alias(kind, name, alias, append)

    def roll_back_alias(self, kind: str, name: str, alias: str) -> tuple[str, str]:
        """Point an alias back at the version it had before; returns ``(from, to)``.

        Rolling back twice goes two versions back: the entry rolled back from leaves the history.
        """
        moved: list[str] = []

        def pop(history: list[dict[str, str]]) -> list[dict[str, str]]:
            if len(history) < 2:
                raise BadInputError(f"{kind} {name}: {alias} has no earlier version to go back to")
            moved.extend([history[-1]["version"], history[-2]["version"]])
            self._require_published(kind, name, moved[1])
            return history[:-1]

        self._edit_alias(kind, name, alias, pop)
        return moved[0], moved[1]

    def remove_alias(self, kind: str, name: str, alias: str) -> None:
        """Make an alias point nowhere; without it nothing happens."""
        path = self.alias_path(kind, name, alias)
        with self.locked(kind, name, "aliases"):
            if self.exists(path):
                self.fs.rm(path)

    def _edit_alias(
        self, kind: str, name: str, alias: str, edit: Callable[[list[dict[str, str]]], list[dict[str, str]]]
    ) -> None:
        with self.locked(kind, name, "aliases"):
            history = edit(self.alias_history(kind, name, alias))[-100:]
            self.write(self.alias_path(kind, name, alias), json.dumps({"history": history}, indent=1).encode())

    def _require_published(self, kind: str, name: str, version: str) -> None:
        if not self.exists(self.path(kind, check_name(name), check_name(version), MANIFEST)):
            raise BadInputError(f"there is no {name}@{version} among the {kind} in {self.uri}", kind=kind, name=name)
