"""The service with all its books in process: keys, ledger, audit log and log files are the real ones, below a home of
their own; retriever and tiers are fakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.testclient import TestClient

from actors.audit.audit_log import AuditLog
from actors.audit.client import AuditClient, Send
from actors.audit.entries import Entry
from actors.audit.reading import Wanted, newest
from actors.ledger.key_book import KeyBook
from cluster.core.home import Home
from cluster.core.identity import SCOPES, Principal
from cluster.core.sections.audit import AuditSection
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.trust import TrustSection
from cluster.core.telemetry import log_event
from data_jobs.pii import redact
from serve_apps.gateway.audit_trail import AuditTrail, masked
from serve_apps.gateway.budget import Budget, MostOfTier
from serve_apps.gateway.doorkeeper import Doorkeeper
from serve_apps.gateway.token_counts import RegexTokenCounter
from tests.actors.ledger.books import House
from tests.fakes import FixedRetriever
from tests.serve_apps.service import Service

# A busy machine is no fault of the service's.
PATIENT = ServeSection(guard_timeout_s=60, request_timeout_s=300, body_timeout_s=60, longest_wait_s=60)
COLLECTIONS = ("main", "acme-docs", "umbrella-docs")


class LoggingService(Service):
    """Writes its log lines to the files, too."""

    def _write(self, component: str, event: str, **fields: Any) -> None:
        super()._write(component, event, **fields)
        log_event(component, event, **fields)


class Whole:
    """One application and its books.

    Args:
        home: of all files; ``PLINTH_HOME`` names it.
        required, sample: as in ``AuditSection``.
        fakes: other collaborators, as ``Service`` takes them.
    """

    def __init__(self, home: Home, required: bool = False, sample: float = 0.0, **fakes: Any) -> None:
        self.home, self.book, self.log = home, KeyBook.of(home), AuditLog.of(home)
        self.ledger = House(home.folder("spool"), f"sqlite:///{home.folder('ledger')}/ledger.db")
        retriever = FixedRetriever(names=COLLECTIONS)
        retriever.labels = {"acme-docs": {"acme": 3}, "umbrella-docs": {"umbrella": 5}}
        trail = AuditTrail(
            AuditSection(required=required, sample=sample), AuditClient(self._connect, lambda count, reason: None),
            masked(redact), lambda: 0.0, self._show,
        )  # fmt: skip
        self.service = LoggingService(
            **{
                "retriever": retriever, "trail": trail, "also": trail.ended, "home": home, "section": PATIENT,
                "budget": Budget(self.ledger.gateway(), {"quote": MostOfTier(0, 64, 0.5)}, RegexTokenCounter()),
                "doorkeeper": Doorkeeper(self.book, TrustSection(), 8000), **fakes,
            }
        )  # fmt: skip

    async def _connect(self) -> Send:
        return self._send

    async def _send(self, entries: Sequence[Entry]) -> dict[str, Any]:
        return {"last": self.log.append(entries) if entries else 0, "damaged": ""}

    async def _show(self, wanted: Wanted, count: int, by: str) -> list[dict[str, Any]]:
        self.log.append([Entry.of("audit_read", by=by, of=wanted.told())])
        return newest(self.log, wanted, count)

    def key(self, name: str = "one", tenant: str = "acme", scopes: Sequence[str] = SCOPES, **more: Any) -> str:
        """A new key's text."""
        return self.book.create(name, Principal("", tenant=tenant, scopes=frozenset(scopes), **more))[0]

    def client(self, key: str = "") -> TestClient:
        """A client that sends this key; without one none."""
        client = self.service.client()
        if key:
            client.headers["authorization"] = f"Bearer {key}"
        return client
