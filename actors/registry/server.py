"""What runs inside the registry actor: the one writer of the registry, and the mirror kept up in a quiet thread.

A plain class; ``actors/spawn.py`` makes an actor of it. It holds no state that is not in the store: after a crash it
starts again with the same arguments and goes on. An actor that gives way to newer code is drained first: it finishes
the write and the sync it is at, and refuses what comes after with ``DrainingError``.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from actors.audit.events import record_event, section_of
from actors.draining import DrainingError
from actors.registry.mlflow_mirror import Mirror
from actors.registry.mlflow_server import tracking_uri
from actors.registry.models import Registry
from cluster.core.errors import PlinthError
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.core.telemetry import log_event

PERIOD_S = 20.0  # runs write to the store without telling anybody; this is how soon the mirror has them
WRITES = ("register", "promote", "refuse", "roll_back", "taint")


class RegistryServer:
    """Serves the registry of one store.

    Args:
        store_uri: of the store. home: the head's PLINTH_HOME, where the mirror is.
        loaded_at: when the code it runs was loaded (seconds since the epoch): which of two servers is the newer one.
        period_s: seconds between looks at the store.
    """

    def __init__(self, store_uri: str, home: str, loaded_at: float = 0.0, period_s: float = PERIOD_S) -> None:
        os.environ["PLINTH_HOME"] = home  # its log is written there, wherever the worker was started from
        self._store, self._home = Store(store_uri), Home(Path(home))
        self._mirror = Mirror(self._store, Path(home), tracking_uri(Path(home)))
        self._period_s, self._loaded_at = period_s, loaded_at
        self._writing, self._draining = threading.Lock(), False
        self._wake, self._stop = threading.Event(), threading.Event()
        self._last: dict[str, Any] = {"syncs": 0, "done": "", "error": ""}
        self._thread = threading.Thread(target=self._follow, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def write(self, method: str, actor: str, arguments: dict[str, Any]) -> Any:
        """One of WRITES, on behalf of ``actor``; then the mirror is brought up in the background.

        Raises:
            DrainingError: this server gives way to another.
        """
        if method not in WRITES:
            raise ValueError(f"{method} is no write of the registry")
        with self._writing:
            if self._draining:
                raise DrainingError("this registry actor gives way to one of newer code")
            try:
                done = getattr(Registry(self._store, actor), method)(**arguments)
            finally:
                self._wake.set()
            said = {name: arguments[name] for name in ("name", "version", "reason", "report") if name in arguments}
            record_event(self._home, section_of(self._home), f"model_{method}", by=actor, **said)
        return done

    def nudge(self) -> None:
        """Look at the store now rather than at the end of the period."""
        self._wake.set()

    def mirror_state(self) -> dict[str, Any]:
        """``{"pid", "syncs", "done", "error"}``: how often the mirror was looked after, what came of the last time."""
        return {"pid": os.getpid(), **self._last}

    def about(self) -> dict[str, Any]:
        """``{"loaded_at", "writing", "draining"}``: how new its code is, whether it writes, whether it gives way."""
        return {"loaded_at": self._loaded_at, "writing": self._writing.locked(), "draining": self._draining}

    def drain(self) -> None:
        """Take no further write, finish the one in progress, end the mirror's thread; may be called again."""
        self._draining = True
        with self._writing:
            log_event("registry", "drained", loaded_at=self._loaded_at)
        self.stop()

    def stop(self) -> None:
        """End the thread; a sync in progress is finished first."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _follow(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # never in the way of training or answers
        while True:
            self._wake.wait(self._period_s)
            self._wake.clear()
            if self._stop.is_set():
                return
            self._last = self._sync()

    def _sync(self) -> dict[str, Any]:
        count = self._last["syncs"] + 1
        try:
            done = self._mirror.sync()
        except (PlinthError, OSError, ValueError, LookupError, TypeError) as error:
            # The mirror is for others to read: whatever is wrong with it or with one run's file, the registry works.
            log_event("registry", "mirror_failed", error=f"{type(error).__name__}: {error}")
            return {"syncs": count, "done": "", "error": str(error)}
        if done != "nothing":
            log_event("registry", "mirrored", done=done)
        return {"syncs": count, "done": done, "error": ""}
