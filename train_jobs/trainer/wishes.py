"""What people want of a run that trains: that it be cancelled, or stop with a checkpoint. Looked up on a thread."""

from __future__ import annotations

import contextlib
import posixpath
import threading

from actors.registry.runs import RunLog
from cluster.core.storage import Store
from train_jobs.trainer.outcome import STOP

LOOK_S, REMOTE_LOOK_S = 0.2, 2.0  # on an object store each look is a request


class Wishes:
    """Of rank 0; the first look is taken at once.

    Attributes:
        cancelled: ``plinth runs cancel``.
        interrupted: the driver wants the end (Ctrl-C, SIGTERM).
    """

    def __init__(self, log: RunLog, store: Store, folder: str) -> None:
        self._log, self._store, self._stop = log, store, posixpath.join(folder, STOP)
        self.cancelled = self.interrupted = False
        self._closed = threading.Event()
        self.look()
        self._thread = threading.Thread(target=self._watch, name="wishes", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look up both now."""
        self.cancelled = self._log.cancelled()
        self.interrupted = self._store.exists(self._stop)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_S if self._store.local else REMOTE_LOOK_S):
            with contextlib.suppress(OSError):  # an object store that does not answer for once
                self.look()
