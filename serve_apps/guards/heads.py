"""The heads of the guard `classifier` while it runs: what the alias names is loaded, checked and swapped in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.core.errors import IncompatibleError, PlinthError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import LIVE, Store
from cluster.core.telemetry import log_event
from data_jobs.safety.head import FILE, SafetyHead
from data_jobs.safety.in_force import KIND, NAME, shipped
from serve_apps.replicas.live import Live

FOLLOW_S = 2.0


class LiveHeads:
    """Follows the alias. What is damaged, or reads vectors of another encoder, is refused: the heads before stay.

    Args:
        asks: whose vectors there are (``Embedder.asks`` of the safety encoder).
        cache: local folder for copies of remote artefacts.
        write: ``telemetry.log_event``.
    """

    def __init__(
        self, store: Store, cache: Path, asks: str, shipped_head: SafetyHead, write: Callable[..., None] = log_event
    ) -> None:
        self._store, self._asks, self._shipped, self._write = store, asks, shipped_head, write
        self._live: Live[SafetyHead] = Live("guard", store, KIND, NAME, self._wanted, self._load, cache)
        self._chosen: str | None = None
        self._said = ""

    @classmethod
    def of(cls, home: Home, asks: str) -> LiveHeads:
        """Those of this machine's store, loaded."""
        found = cls(Store(home.store_uri), home.root / "cache", asks, shipped().head)
        found.refresh()
        return found

    @property
    def head(self) -> SafetyHead:
        """What to use now.

        Raises:
            IncompatibleError: there is none for these vectors.
        """
        current = self._live.current
        return checked(current.thing if current is not None else self._shipped, self._asks)

    def refresh(self) -> bool:
        """Load what the alias names if it is another; True when it was swapped in. Blocking."""
        return self._live.refresh()

    def follow(self) -> None:
        """Refresh every two seconds from now on; needs the running loop."""
        self._live.follow(FOLLOW_S)

    def _wanted(self) -> str | None:
        """The version it names; while the store does not answer, or the alias is damaged, what it was before."""
        try:
            self._chosen, self._said = self._store.alias(KIND, NAME, LIVE), ""
        except (PlinthError, OSError, LookupError, TypeError, ValueError) as error:
            if self._said != (said := f"{type(error).__name__}: {error}"):
                self._write("guard", "heads_not_found", error=said)
            self._said = said
        if self._chosen is None:
            self._live.current = None  # taken back: the shipped ones again
        return self._chosen

    def _load(self, folder: Path, manifest: Manifest) -> SafetyHead:
        text = (folder / FILE).read_text(encoding="utf-8")
        return checked(SafetyHead.from_json(text, f"{NAME}@{manifest.version}"), self._asks)


def checked(head: SafetyHead, asks: str) -> SafetyHead:
    """The heads, if they read these vectors.

    Raises:
        IncompatibleError: they learnt from the vectors of another encoder.
    """
    if head.embedder != asks:
        raise IncompatibleError(
            f"these heads of the guard `classifier` were fitted on vectors of the encoder {head.embedder}, and there "
            f"is {asks}: train new ones with `plinth train safety`, or go back with `plinth review rollback`"
        )
    return head
