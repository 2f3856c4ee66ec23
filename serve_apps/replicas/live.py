"""What a replica serves while it runs: the artefact an alias points to, loaded whole and swapped in one assignment.

Requests in flight keep what they started with, so a new index or model goes live without a restart and without a failed
request. A version that is damaged, or does not fit, is refused; the last good one keeps serving.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cluster.core.errors import PlinthError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from cluster.core.telemetry import log_event

ThingT = TypeVar("ThingT")
RETRY_REFUSED_S = 30.0


@dataclass(frozen=True)
class Loaded(Generic[ThingT]):
    """One artefact in memory."""

    manifest: Manifest
    thing: ThingT


class Live(Generic[ThingT]):
    """Follows one artefact.

    Args:
        component: whose log tells of it.
        store: where artefacts are published.
        kind, name: which artefact.
        version: the version that should be served now, or None; asked at every refresh.
        load: makes the thing from a verified folder; may raise PlinthError to refuse it.
        cache: local folder for copies of remote artefacts.
        earlier: versions to fall back to, newest last, while nothing serves and the wanted one is refused.
        retire: told of a thing that is served no more (in the loading thread).
    """

    def __init__(
        self,
        component: str,
        store: Store,
        kind: str,
        name: str,
        version: Callable[[], str | None],
        load: Callable[[Path, Manifest], ThingT],
        cache: Path,
        retire: Callable[[ThingT], None] | None = None,
        earlier: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._component, self._store, self._kind, self._name = component, store, kind, name
        self._version, self._load, self._cache, self._retire = version, load, cache, retire
        self._earlier = earlier
        self._refused: tuple[str, float] = ("", 0.0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"load-{kind}")
        self._follower: asyncio.Task[None] | None = None
        self.current: Loaded[ThingT] | None = None

    def refresh(self) -> bool:
        """Load the wanted version if it is another than the current one; True when it was swapped in.

        Blocking (reads and hashes files): call it from a thread. Never raises for a bad artefact: it is logged, refused
        and tried again after RETRY_REFUSED_S, while the current one keeps serving.
        """
        version = self._version()
        if version is None or (self.current is not None and version == self.current.manifest.version):
            return False
        refused, at = self._refused
        if version == refused and time.monotonic() - at < RETRY_REFUSED_S:
            return False
        if self._swapped(version):
            return True
        self._refused = (version, time.monotonic())
        if self.current is None and self._earlier is not None:
            others = [earlier for earlier in reversed(self._earlier()) if earlier != version]
            return any(self._swapped(earlier) for earlier in dict.fromkeys(others))
        return False

    def _swapped(self, version: str) -> bool:
        """Load a version and serve it; False, and a line in the log, where it is refused."""
        try:
            manifest = self._store.manifest(self._kind, self._name, version)
            loaded = Loaded(manifest, self._load(self._store.fetch(manifest, self._cache), manifest))
        except (PlinthError, OSError) as error:
            serving = self.current.manifest.version if self.current else "none"
            log_event(
                self._component, "refused", artefact=f"{self._kind}/{self._name}", version=version, serving=serving,
                error=str(error),
            )  # fmt: skip
            return False
        before, self.current = self.current, loaded
        log_event(self._component, "live", artefact=f"{self._kind}/{self._name}", version=version)
        if before is not None and self._retire is not None:
            self._retire(before.thing)
        return True

    def follow(self, every_s: float) -> None:
        """Refresh in a thread of its own from now on, once however often it is called; needs the running loop."""
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._follow(every_s))

    async def _follow(self, every_s: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, self.refresh)
            await asyncio.sleep(every_s)
