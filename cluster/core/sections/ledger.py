"""The books of what keys and tenants used, and the budgets that hold in them (actors/ledger)."""

from __future__ import annotations

from pydantic import Field, field_validator

from cluster.core.sections.base import Section, postgresql_url


class LedgerSection(Section):
    """Where the ledger keeps its books, and how gateways work with it."""

    url: str = ""
    """Database of the ledger, `postgresql://user@host/name` (empty: a SQLite file below PLINTH_HOME). No password
    here: `~/.pgpass` or PGPASSWORD of the head has it."""
    wait_s: float = Field(2.0, gt=0, le=30)
    """Longest time a request waits for the ledger; 503 after it, never free service."""
    lease_s: float = Field(10.0, gt=0)
    """How long a gateway may use what the ledger lent it of a budget without asking again."""
    report_s: float = Field(1.0, gt=0)
    """Seconds between two reports of a gateway: usage is in the books, and new limits of a tenant count, this soon."""
    blind_s: float = Field(60.0, gt=0)
    """Keys without limits are served for so long while the ledger does not answer; then they get 503 too, because
    nobody knows any more whether their tenant has a limit."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        return postgresql_url(url)
