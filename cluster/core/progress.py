"""How long work tells what it is doing, without knowing who listens (a progress bar, a log, nobody)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Stages come one after the other; ``total`` is in ``unit`` and may be unknown."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        """A stage begins; ``total`` is how much there is to do in it, where that is known, counted in ``unit``."""
        ...

    def advance(self, amount: int = 1) -> None:
        """So much more of the stage is done."""
        ...

    def counts(self, **counts: float) -> None:
        """Numbers to show beside the stage; later ones replace earlier ones of the same name."""
        ...

    def waits(self, what: str) -> None:
        """The stage cannot begin before something else happens: what it waits for, "" once it waits no more."""
        ...


class Silent:
    """Listens to nothing."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        del name, total, unit

    def advance(self, amount: int = 1) -> None:
        del amount

    def counts(self, **counts: float) -> None:
        del counts

    def waits(self, what: str) -> None:
        del what
