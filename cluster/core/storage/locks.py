"""Who may write when, between processes of one machine. Object stores have no locks: there the last writer wins."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.core.errors import EnvironmentFaultError
from cluster.core.storage.files import Files, storage_errors


class Locks(Files):
    """Locks on folders of a store, by ``flock``: a killed holder holds nothing."""

    @contextmanager
    def job(self) -> Iterator[None]:
        """Tells ``collecting`` that work is in progress: what it has staged or is about to refer to must stay."""
        with self._flock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keeps jobs from starting while unreferenced artefacts are removed (object stores: nothing is kept out).

        Raises:
            EnvironmentFaultError: a job is running on this machine.
        """
        try:
            with self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield
        except BlockingIOError:
            raise EnvironmentFaultError("a job is writing to the store: wait until it is done, then collect") from None

    @contextmanager
    def _flock(self, how: int) -> Iterator[None]:
        if not self.on_disk:
            yield
            return
        with storage_errors(self.root):
            Path(self.root).mkdir(parents=True, exist_ok=True)
            handle = open(self.path(".jobs.lock"), "w")  # noqa: SIM115 (held for the block)
        with handle:
            fcntl.flock(handle, how)
            yield

    @contextmanager
    def locked(self, *parts: str) -> Iterator[None]:
        """Serialises writers of one folder between processes of one machine (object stores: last writer wins)."""
        if not self.on_disk:
            yield
            return
        folder = Path(self.path(*parts))
        with storage_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            handle = open(folder / ".lock", "w")  # noqa: SIM115 (held for the block)
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
