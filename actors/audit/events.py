"""What administrators do, written down by whoever does it, whether or not the service runs."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from typing import Any

from actors.audit.audit_log import AuditLog
from actors.audit.entries import Entry
from cluster.core.errors import PlinthError, UsageError
from cluster.core.home import Home
from cluster.core.sections.audit import AuditSection
from cluster.core.telemetry import log_event


def person() -> str:
    """Who sits at this machine: user@host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def section_of(home: Home) -> AuditSection:
    """What `plinth up` was told of the log; as shipped where it was told nothing that can be read."""
    from cluster.core.config import load_config

    try:
        return load_config(home.root / "run" / "config.json").trust.audit
    except UsageError:
        return AuditSection()


def record_event(
    home: Home,
    section: AuditSection,
    action: str,
    by: str = "",
    tenant: str = "",
    mask: Callable[[str], str] = str,
    **details: Any,
) -> int:
    """Write one action down (``key_created``, ``key_revoked``, ``model_promoted``, ...) and return its number in the
    log once it is safe; 0 where no log is kept.

    Args:
        by: who did it; by default who sits at this machine.
        tenant: whom it concerns: it goes when the tenant is erased. Empty: the installation's own.
        mask: takes personal data and secrets out of a text (``data_jobs.pii``); every text among the details passes it.
        **details: names, ids, reasons; never keys or what people wrote.

    Raises:
        EnvironmentFaultError, IntegrityError: it cannot be written, and ``trust.audit.required`` is set. Else that is
            a line in the log of the component ``audit``.
    """
    if not section.on:
        return 0
    masked: dict[str, Any] = {name: mask(value) if isinstance(value, str) else value for name, value in details.items()}
    entry = Entry.of("event", tenant, action=action, by=by or person(), **masked)
    try:
        return AuditLog.of(home, section.segment_mb << 20).append([entry])
    except PlinthError as error:
        if section.required:
            raise
        log_event("audit", "event_lost", action=action, error=error.message)
        return 0
