"""What administrators do by a verb, written into the audit log."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.core.entry import config_from
from cluster.core.home import Home


def write_down(args: argparse.Namespace, action: str, tenant: str = "", **details: Any) -> None:
    """Write an action down, with names and ids; ``tenant``: whom it concerns. Raises as ``record_event``."""
    from actors.audit.events import record_event

    home = Home.from_env()
    record_event(home, config_from(args, home).trust.audit, action, tenant=tenant, **details)
