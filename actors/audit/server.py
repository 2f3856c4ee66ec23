"""What runs inside the audit actor: the writer of the log for all gateways, and its housekeeping in a quiet thread.

A plain class; ``actors/spawn.py`` makes an actor of it. All it knows is on disk, so it may die at any moment.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.audit.audit_log import AuditLog
from actors.audit.entries import Entry
from actors.audit.housekeeping import retire
from actors.audit.reading import Wanted, newest
from actors.audit.verifying import verify
from cluster.core.errors import EnvironmentFaultError, PlinthError
from cluster.core.home import Home
from cluster.core.sections.audit import AuditSection
from cluster.core.telemetry import log_event

PERIOD_S = 600.0  # between two looks for segments that are too old


class AuditServer:
    """Writes the log of one installation.

    Args:
        home: PLINTH_HOME of the machine with the log. section: how long records are kept, how often they are checked.
        loaded_at: when the code it runs was loaded (seconds since the epoch).
    """

    def __init__(self, home: str, section: AuditSection, loaded_at: float = 0.0, period_s: float = PERIOD_S) -> None:
        os.environ["PLINTH_HOME"] = home  # its own log is written there, wherever the worker was started from
        self._log = AuditLog.of(Home(Path(home)), section.segment_mb << 20)
        self._section, self._loaded_at, self._period_s = section, loaded_at, period_s
        self._last, self._damaged, self._draining = 0, "", False
        self._writing, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_house, name="audit-housekeeping", daemon=True)
        self._thread.start()

    def write(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Write entries down; returns, once they are safe, ``{"last", "damaged"}``.

        Raises:
            EnvironmentFaultError: the disk does not take them, or this server gives way to another.
            IntegrityError: the log's end or its keys were changed.
        """
        with self._writing:
            if self._draining:
                raise EnvironmentFaultError("this audit actor gives way to one of newer code")
            if entries:
                self._last = self._log.append(entries)
        return {"last": self._last, "damaged": self._damaged}

    def show(self, wanted: Wanted, count: int, by: str) -> list[dict[str, Any]]:
        """The newest records that are wanted, once it is written down who reads them.

        Raises:
            EnvironmentFaultError: the reading cannot be written down.
            IntegrityError: the log was changed.
        """
        self.write([Entry.of("audit_read", by=by, verb="show", of=wanted.told())])
        return newest(self._log, wanted, count)

    def about(self) -> dict[str, Any]:
        """``{"loaded_at", "writing", "draining"}``: how new its code is, whether it writes, whether it gives way."""
        return {"loaded_at": self._loaded_at, "writing": self._writing.locked(), "draining": self._draining}

    def drain(self) -> None:
        """Take no further entries, finish the write in progress, end the thread; may be called again."""
        self._draining = True
        with self._writing:
            log_event("audit", "drained", loaded_at=self._loaded_at)
        self._stop.set()
        self._thread.join()

    def _keep_house(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # never in the way of answers
        verified = time.monotonic() - self._section.verify_hours * 3600  # once soon after the start
        while not self._stop.wait(self._period_s):
            try:
                if gone := retire(self._log, self._section.keep_days):
                    log_event("audit", "retired", segments=gone)
            except PlinthError as error:
                log_event("audit", "not_retired", error=error.message)
            if self._section.verify_hours and time.monotonic() - verified >= self._section.verify_hours * 3600:
                verified = time.monotonic()
                self._damaged = self._checked()

    def _checked(self) -> str:
        """What is wrong with the log; empty: nothing."""
        try:
            found = verify(self._log)
        except PlinthError as error:
            log_event("audit", "damaged", error=error.message)
            return error.message
        log_event("audit", "verified", first=found.first, last=found.last, erased=found.erased)
        return ""
