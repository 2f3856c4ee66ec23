"""The ledger: lends budget before it is used, and books what was.

It never lends more than is left. What counts against a limit is what was booked in its span, and everything that is
lent and has not come back, whatever for: so no order of events and no crash leads to more use than a limit allows.

- A minute is any 60 seconds: use is booked in slots of 5 s, when it comes back (later than it happened), and a slot
  counts until it is 60 s old as a whole. A day is a UTC day, a month a calendar month in UTC.
- What is lent comes back when its gateway says so; when a gateway died, the next one on its machine reads its journal
  and says it for it (``spool.py``). What nobody accounted for when it is due counts as used, in the spans of that
  moment, until somebody does: too little is handed out then, never too much.

Everything is in the database; an object of this class holds no state, and several may work on one database.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from actors.ledger.amounts import (
    DAY,
    MICRO,
    MONTH,
    NOTHING,
    REQUESTS,
    TOKENS,
    UNLIMITED,
    Amount,
    Ask,
    Grant,
    Message,
    Need,
    Refusal,
    Reply,
    Standing,
    Used,
)
from actors.ledger.database import COUNTERS, HOLDERS, LEASES, TENANTS, USAGE, Database, add_to
from cluster.core.errors import PlinthError
from cluster.core.identity import Limits

SLOT_S, MINUTE_S = 5, 60
SHARE = 16  # a gateway gets at most one of so many shares of what is left beside what its requests need
AMOUNTS = tuple(part.name for part in fields(Amount))
COUNTED = ("requests", "prompt_tokens", "completion_tokens", "micro")
LIMITS = tuple(part.name for part in fields(Limits))
FORGET_S = 40 * 86400.0  # holders that are silent for so long, and what they never gave back
FIELD = {REQUESTS: "requests", TOKENS: "tokens", DAY: "tokens", MONTH: "micro"}  # what of an Amount a limit is about


@dataclass(frozen=True)
class Gauge:
    """One limit of an account as it stands: what was booked in its span, and what is lent at the moment."""

    limit: str
    of_tenant: bool
    most: int
    booked: int
    lent: int

    @property
    def left(self) -> int:
        """What may still be lent."""
        return self.most - self.booked - self.lent


class OvertakenError(PlinthError):
    """A message came after one that was sent later."""


class Ledger:
    """The books of one database.

    Args:
        due_s: what was lent is due back so long after; longer than a gateway may use a lease and a request may last.
        clock: seconds since the epoch.
    """

    def __init__(self, database: Database, due_s: float, clock: Callable[[], float] = time.time) -> None:
        self._database, self._due_s, self._clock = database, due_s, clock

    def exchange(self, message: Message) -> Reply:
        """Take a gateway's reports, take back the leases it has no more, then lend what it asks for: in one
        transaction, so that all of it is kept, or nothing.

        Raises:
            OvertakenError: a later message of this gateway was here before; nothing was done.
            EnvironmentFaultError: the database does not answer; nothing was done, as far as anybody can say.
        """
        now = self._clock()
        with self._database.writing() as connection:
            books = _Books(connection, now)
            books.charge_overdue()
            books.take(message)
            tenants = books.tenants()
            grants = tuple(
                books.lend(message.holder, ask, tenants.get(ask.tenant, Limits()), now + self._due_s)
                for ask in message.asks
            )
        return Reply(grants, tenants)

    def set_tenant_limits(self, tenant: str, limits: Limits) -> None:
        """Give a tenant limits, which hold for all its keys together; those that are None fall away."""
        set_tenant_limits(self._database, tenant, limits)

    def lent(self) -> Amount:
        """What is lent at the moment and not yet due: in the hands of gateways, or reserved by requests."""
        total = select(*(func.coalesce(func.sum(LEASES.c[name]), 0) for name in AMOUNTS))
        with self._database.reading() as connection:
            return Amount(*map(int, connection.execute(total.where(~LEASES.c.charged)).one()))


def set_tenant_limits(database: Database, tenant: str, limits: Limits) -> None:
    """Give a tenant limits, which hold for all its keys together; those that are None fall away.

    Raises:
        EnvironmentFaultError: the database does not answer.
    """
    with database.writing() as connection:
        if limits == Limits():
            connection.execute(delete(TENANTS).where(TENANTS.c.tenant == tenant))
        else:
            add_to(connection, TENANTS, {"tenant": tenant, **asdict(limits)}, ())


def tenant_limits(database: Database) -> dict[str, Limits]:
    """The limits of all tenants that have any. Raises as ``set_tenant_limits``."""
    with database.reading() as connection:
        return _Books(connection, 0.0).tenants()


class _Books:
    """The tables in one transaction at one moment."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._sql, self._now = connection, now

    # -- what comes back ----------------------------------------------------------------------------------------------
    def take(self, message: Message) -> None:
        """Book a gateway's reports (those that were taken before change nothing), and take back what it has no more."""
        holder = message.holder
        known = self._sql.execute(select(HOLDERS).where(HOLDERS.c.holder == holder)).mappings().one_or_none()
        last = -1 if known is None else int(known["number"])
        if known is not None and message.number <= known["message"]:
            raise OvertakenError("a later message of this gateway was here before")
        for report in sorted(message.reports, key=lambda one: one.number):
            if report.number > last:
                last = report.number
                self._book(report.rows)
                for returned in report.returned:
                    self._take_back(returned.lease, returned.amount)
        if message.reports or message.asks:
            row = {"holder": holder, "number": last, "message": message.number, "seen": self._now}
            add_to(self._sql, HOLDERS, row, ())
        held = self._sql.execute(select(LEASES.c.lease).where(LEASES.c.holder == holder)).scalars().all()
        for lease in set(held) - set(message.alive):
            self._take_back(lease)

    def _book(self, rows: Iterable[Used]) -> None:
        for row in rows:
            add_to(self._sql, USAGE, asdict(row), COUNTED)
            for account in (f"key/{row.key_id}", f"tenant/{row.tenant}"):
                self._count(account, row.amount, self._now)

    def _count(self, account: str, amount: Amount, at: float) -> None:
        for span, number in _spans(at).items():
            add_to(self._sql, COUNTERS, {"account": account, "span": span, "number": number, **asdict(amount)}, AMOUNTS)

    def _take_back(self, lease: str, amount: Amount | None = None) -> None:
        """Take back so much of a lease; None: all that is left of it."""
        chosen = LEASES.c.lease == lease
        row = self._sql.execute(select(LEASES).where(chosen)).mappings().one_or_none()
        if row is None:
            return
        held = _amount(row)
        back = held if amount is None else amount.at_most(held)
        if row["charged"]:  # it was counted as used when it was due; what was used has been booked by now
            for account in (row["key_account"], row["tenant_account"]):
                self._count(account, NOTHING - back, row["due"])
        if amount is None:
            self._sql.execute(delete(LEASES).where(chosen))
        else:
            self._sql.execute(update(LEASES).where(chosen).values(asdict(held - back)))

    def charge_overdue(self) -> None:
        """Count as used what is due and was not accounted for; forget what is out of every span."""
        due = LEASES.c.due < self._now
        for row in self._sql.execute(select(LEASES).where(due, ~LEASES.c.charged)).mappings().all():
            for account in (row["key_account"], row["tenant_account"]):
                self._count(account, _amount(row), row["due"])
            self._sql.execute(update(LEASES).where(LEASES.c.lease == row["lease"]).values(charged=True))
        old = _slot(self._now) - 2 * MINUTE_S // SLOT_S
        self._sql.execute(delete(COUNTERS).where(COUNTERS.c.span == "slot", COUNTERS.c.number < old))
        self._sql.execute(delete(LEASES).where(LEASES.c.due < self._now - FORGET_S))
        self._sql.execute(delete(HOLDERS).where(HOLDERS.c.seen < self._now - FORGET_S))

    # -- what is lent -------------------------------------------------------------------------------------------------
    def tenants(self) -> dict[str, Limits]:
        """The limits of all tenants that have any."""
        rows = self._sql.execute(select(TENANTS)).mappings().all()
        return {row["tenant"]: Limits(**{name: row[name] for name in LIMITS}) for row in rows}

    def lend(self, holder: str, ask: Ask, tenant: Limits, due: float) -> Grant:
        """Lend what is wanted as far as it is there; requests that came first are served first."""
        accounts = ((f"key/{ask.key_id}", ask.limits, False), (f"tenant/{ask.tenant}", tenant, True))
        gauges = [gauge for account, limits, of in accounts for gauge in self._gauges(account, limits, of)]
        room = _room(gauges)
        granted: list[Amount | Refusal] = []
        lent = NOTHING
        for need in ask.needs:
            got = need.most if room.covers(need.most) else need.most.at_most(room)
            if got.covers(need.least):
                granted.append(got)
                room, lent = room - got, lent + got
            else:
                granted.append(self._refusal(accounts, gauges, need, lent))
        rest = ask.more.at_most(room.part(SHARE)) if lent else NOTHING
        if whole := lent + rest:
            names = {"key_account": accounts[0][0], "tenant_account": accounts[1][0]}
            values = {"lease": ask.lease, "holder": holder, **names, **asdict(whole), "due": due, "charged": False}
            self._sql.execute(LEASES.insert().values(values))
        return Grant(ask.lease, tuple(granted), rest, self._standing(accounts, gauges, room))

    def _gauges(self, account: str, limits: Limits, of_tenant: bool) -> list[Gauge]:
        """How the limits of an account stand; the last ones to recover come first."""
        if limits == Limits():
            return []
        column = LEASES.c.tenant_account if of_tenant else LEASES.c.key_account
        total = select(*(func.coalesce(func.sum(LEASES.c[name]), 0) for name in AMOUNTS))
        lent = Amount(*map(int, self._sql.execute(total.where(column == account, ~LEASES.c.charged)).one()))
        booked = {MONTH: self._booked(account, "month"), DAY: self._booked(account, "day")}
        minute = NOTHING
        for _, amount in self._slots(account):
            minute += amount
        booked |= {REQUESTS: minute, TOKENS: minute}
        return [
            Gauge(
                name, of_tenant, round(most * MICRO) if name == MONTH else int(most),
                getattr(amount, FIELD[name]), getattr(lent, FIELD[name]),
            )
            for name, amount in booked.items()
            if (most := getattr(limits, name)) is not None
        ]  # fmt: skip

    def _booked(self, account: str, span: str) -> Amount:
        at = COUNTERS.c.number == _spans(self._now)[span]
        chosen = select(COUNTERS).where(COUNTERS.c.account == account, COUNTERS.c.span == span, at)
        row = self._sql.execute(chosen).mappings().one_or_none()
        return NOTHING if row is None else _amount(row)

    def _slots(self, account: str) -> list[tuple[int, Amount]]:
        """What was booked in each slot that still counts, oldest first."""
        oldest = _slot(self._now) - MINUTE_S // SLOT_S
        young = COUNTERS.c.number >= oldest
        chosen = select(COUNTERS).where(COUNTERS.c.account == account, COUNTERS.c.span == "slot", young)
        rows = self._sql.execute(chosen.order_by(COUNTERS.c.number)).mappings().all()
        return [(int(row["number"]), _amount(row)) for row in rows]

    def _refusal(
        self, accounts: Sequence[tuple[str, Limits, bool]], gauges: Sequence[Gauge], need: Need, lent: Amount
    ) -> Refusal:
        for gauge in gauges:
            wanted = getattr(need.least, FIELD[gauge.limit])
            if wanted <= gauge.left - getattr(lent, FIELD[gauge.limit]):
                continue
            never = wanted > gauge.most
            told = (never, wanted, getattr(need.most, FIELD[gauge.limit]), gauge.most)
            if gauge.limit in (DAY, MONTH):
                gone = gauge.booked + wanted > gauge.most
                return Refusal(gauge.limit, gauge.of_tenant, self._until(gauge.limit) if gone else 1.0, gone, *told)
            account = accounts[gauge.of_tenant][0]
            retry = self._frees(account, gauge, wanted + getattr(lent, FIELD[gauge.limit]))
            return Refusal(gauge.limit, gauge.of_tenant, retry, False, *told)
        raise AssertionError("a request is refused because of a limit")

    def _frees(self, account: str, gauge: Gauge, wanted: int) -> float:
        """Seconds until so much of a limit a minute is free, if what is lent is used and nobody else comes."""
        missing = wanted - gauge.left
        for slot, amount in self._slots(account):
            missing -= getattr(amount, FIELD[gauge.limit])
            if missing <= 0:
                return max(1.0, self._leaves(slot))
        return 1.0 if gauge.lent else float(MINUTE_S)  # what is lent may come back unused at any moment

    def _leaves(self, slot: int) -> float:
        """Seconds until a slot does not count any more."""
        return (slot + 1) * SLOT_S + MINUTE_S - self._now

    def _until(self, limit: str) -> float:
        """Seconds until the day or the month is over."""
        moment = datetime.fromtimestamp(self._now, UTC)
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        if limit == DAY:
            return midnight + 86400 - self._now
        year, month = divmod(moment.year * 12 + moment.month, 12)
        return datetime(year, month + 1, 1, tzinfo=UTC).timestamp() - self._now

    def _standing(
        self, accounts: Sequence[tuple[str, Limits, bool]], gauges: Sequence[Gauge], room: Amount
    ) -> Standing:
        told: dict[str, Any] = {}
        for name in (REQUESTS, TOKENS):
            mine = [gauge for gauge in gauges if gauge.limit == name]
            if not mine:
                continue
            tight = min(mine, key=lambda gauge: gauge.left)
            slots = [slot for slot, amount in self._slots(accounts[tight.of_tenant][0]) if amount]
            last = self._leaves(max(slots)) if slots else 0.0
            field = FIELD[name]
            left = max(0, min(getattr(room, field), *(gauge.left for gauge in mine)))
            told |= {f"{field}_limit": tight.most, f"{field}_left": left, f"{field}_reset_s": last}
        return Standing(**told)


def _room(gauges: Iterable[Gauge]) -> Amount:
    """What every limit has left."""
    room = {"requests": UNLIMITED, "tokens": UNLIMITED, "micro": UNLIMITED}
    for gauge in gauges:
        field = FIELD[gauge.limit]
        room[field] = max(0, min(room[field], gauge.left))
    return Amount(**room)


def _amount(row: Any) -> Amount:
    return Amount(*(int(row[name]) for name in AMOUNTS))


def _slot(at: float) -> int:
    return math.floor(at / SLOT_S)


def _spans(at: float) -> dict[str, int]:
    """The slot, day and month of a moment."""
    moment = datetime.fromtimestamp(at, UTC)
    return {"slot": _slot(at), "day": int(at // 86400), "month": moment.year * 12 + moment.month - 1}
