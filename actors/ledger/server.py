"""What runs inside the ledger actor: the one that lends budget and books usage.

A plain class; ``actors/spawn.py`` makes an actor of it. It holds no state that is not in its database: after a crash it
starts again with the same arguments and goes on. An actor that gives way to newer code is drained first, and refuses
what comes after with ``DrainingError``.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from actors.draining import DrainingError
from actors.ledger.amounts import Message, Reply, UsageRow
from actors.ledger.database import Database
from actors.ledger.ledger import Ledger
from actors.ledger.usage import usage_rows
from cluster.core.identity import Limits
from cluster.core.telemetry import log_event


class LedgerServer:
    """Serves the ledger of one database.

    Args:
        home: the head's PLINTH_HOME. url: ``trust.ledger.url``. due_s: as ``Ledger`` takes it.
        loaded_at: when the code it runs was loaded (seconds since the epoch): which of two servers is the newer one.
    """

    def __init__(self, home: str, url: str, due_s: float, loaded_at: float = 0.0) -> None:
        os.environ["PLINTH_HOME"] = home  # its log is written there, wherever the worker was started from
        self._database = Database.of(Path(home), url)
        self._ledger = Ledger(self._database, due_s)
        self._loaded_at, self._working, self._draining = loaded_at, threading.Lock(), False

    def exchange(self, message: Message) -> Reply:
        """See ``Ledger.exchange``.

        Raises:
            DrainingError: this server gives way to another.
        """
        with self._working:
            if self._draining:
                raise DrainingError("this ledger actor gives way to one of newer code")
            return self._ledger.exchange(message)

    def usage(self, since: str, until: str, key_id: str, tenant: str) -> list[UsageRow]:
        """See ``usage_rows``."""
        return usage_rows(self._database, since, until, key_id, tenant)

    def set_tenant_limits(self, tenant: str, limits: Limits) -> None:
        """See ``Ledger.set_tenant_limits``."""
        self._ledger.set_tenant_limits(tenant, limits)

    def about(self) -> dict[str, Any]:
        """``{"loaded_at", "writing", "draining", "pid"}``: how new its code is, whether it writes, whether it gives
        way."""
        writing = self._working.locked()
        return {"loaded_at": self._loaded_at, "writing": writing, "draining": self._draining, "pid": os.getpid()}

    def drain(self) -> None:
        """Take no further message, finish the one in progress; may be called again."""
        self._draining = True
        with self._working:
            log_event("ledger", "drained", loaded_at=self._loaded_at)
            self._database.close()
