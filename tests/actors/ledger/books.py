"""A ledger and gateways' wallets in one process, with a clock that tests turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.ledger.amounts import Amount, Message, Need, Reply, UsageRow, Used
from actors.ledger.database import Database
from actors.ledger.ledger import Ledger
from actors.ledger.usage import usage_rows
from actors.ledger.wallet import Hold, Wallet
from cluster.core.errors import EnvironmentFaultError
from cluster.core.identity import Limits, Principal
from cluster.core.sections.ledger import LedgerSection

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
DUE_S = 60.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Direct:
    """A wallet's way to a ledger in the same process. ``down``: it does not answer; ``loses``: so many answers get
    lost after the ledger did what was asked."""

    def __init__(self, ledger: Ledger, database: Database) -> None:
        self.ledger, self.database = ledger, database
        self.down, self.loses, self.messages = False, 0, 0

    async def exchange(self, message: Message) -> Reply:
        self.messages += 1
        if self.down:
            raise EnvironmentFaultError("it is down")
        reply = self.ledger.exchange(message)
        if self.loses:
            self.loses -= 1
            raise EnvironmentFaultError("the answer got lost")
        return reply

    async def usage(self, since: str, until: str, key_id: str, tenant: str) -> list[UsageRow]:
        if self.down:
            raise EnvironmentFaultError("it is down")
        return usage_rows(self.database, since, until, key_id, tenant)


class House:
    """One ledger, its clock, and gateways on one machine."""

    def __init__(self, folder: Path, url: str = "sqlite://", **settings: Any) -> None:
        self.clock, self.folder = Clock(), folder
        self.database = Database(url)
        self.ledger = Ledger(self.database, DUE_S, self.clock)
        self.client = Direct(self.ledger, self.database)
        self.section = LedgerSection(**{"report_s": 0.01, "wait_s": 20.0, **settings})

    def gateway(self) -> Wallet:
        return Wallet(self.client, self.section, self.folder, self.clock)


def key(name: str = "ann", tenant: str = "lab", **limits: Any) -> Principal:
    return Principal(name, tenant, limits=Limits(**limits))


def need(tokens: int = 100, least: int | None = None, micro: int = 0) -> Need:
    return Need(Amount(1, tokens, micro), Amount(1, tokens if least is None else least, micro))


def used(hold: Hold, tokens: int, micro: int = 0, tenant: str = "lab", day: str = "2027-01-15") -> Used:
    return Used(day, hold.key_id, tenant, "quote", 1, tokens, 0, micro)
