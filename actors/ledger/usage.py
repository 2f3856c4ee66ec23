"""Who used what: rows of the books, for ``GET /v1/usage`` and ``plinth keys usage``."""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlalchemy import select

from actors.ledger.amounts import MICRO, UsageRow
from actors.ledger.database import USAGE, Database
from cluster.core.errors import UsageError


def usage_rows(
    database: Database, since: str = "", until: str = "", key_id: str = "", tenant: str = ""
) -> list[UsageRow]:
    """Rows of the days from ``since`` to ``until`` (``2026-11-29``; empty: this month's first day, today), of one key
    or tenant or (empty) of all, by day, tenant, key and tier.

    Raises:
        UsageError: a day is none.
        EnvironmentFaultError: the database does not answer.
    """
    today = datetime.now(UTC).date()
    first, last = _day(since) or today.replace(day=1), _day(until) or today
    chosen = select(USAGE).where(USAGE.c.day >= first.isoformat(), USAGE.c.day <= last.isoformat())
    if key_id:
        chosen = chosen.where(USAGE.c.key_id == key_id)
    if tenant:
        chosen = chosen.where(USAGE.c.tenant == tenant)
    order = (USAGE.c.day, USAGE.c.tenant, USAGE.c.key_id, USAGE.c.tier)
    with database.reading() as connection:
        rows = connection.execute(chosen.order_by(*order)).mappings().all()
    return [
        UsageRow(
            row["day"], row["key_id"], row["tenant"], row["tier"], int(row["requests"]), int(row["prompt_tokens"]),
            int(row["completion_tokens"]), int(row["micro"]) / MICRO,
        )
        for row in rows
    ]  # fmt: skip


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text[:40]!r} is no day: write it as 2026-11-29") from None
