"""What guards found and people are to look at, in a database, and what they decided about it.

The same text that the same rule finds again for the same tenant is one item that is counted: conversations are sent
again with each turn. A tenant has at most MOST_OPEN undecided items, so that nobody who sends what rules find can fill
the queue; what comes then is not kept. Texts were redacted before (``gateway/reviewing``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from actors.ledger.database import Database
from actors.review.decisions import DECISIONS, REVIEWED, Decision, State
from cluster.core.errors import BadInputError
from cluster.core.records import stable_hash

ROOM = "review"
DAY_S = 86400.0
MOST_OPEN = 1000  # undecided items of a tenant
MOST_CHARS = 8_000  # of a text that is kept
TABLES = sql.MetaData()
_ITEMS = sql.Table(
    "review_items", TABLES,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("id", sql.String(32), nullable=False, unique=True),
    sql.Column("tenant", sql.String(64), nullable=False, index=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("score", sql.Float, nullable=False),
    sql.Column("times", sql.Integer, nullable=False),
    sql.Column("decision", sql.String(16), nullable=False, index=True),
    sql.Column("decided_at", sql.Float),
    *(sql.Column(name, sql.Text, nullable=False)
      for name in ("collection", "guard", "rule", "version", "policy", "reason", "text", "by", "note")),
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One text that a guard found something in.

    Attributes:
        guard, rule, version, policy, reason, score: of the verdict.
        number: grows with each item, for paging. times: how often it came.
        at, decided_at: seconds since the epoch. by: who decided; empty: nobody yet.
    """

    tenant: str
    collection: str
    guard: str
    rule: str
    version: str
    policy: str
    reason: str
    score: float
    text: str
    id: str = ""
    number: int = 0
    at: float = 0.0
    times: int = 1
    decision: str = ""
    by: str = ""
    note: str = ""
    decided_at: float | None = None

    def masked(self, mask: Callable[[str], str]) -> Item:
        """The same with what people wrote masked."""
        return replace(self, text=mask(self.text), reason=mask(self.reason))

    @property
    def named(self) -> Item:
        """The same as it is queued, with its id, which depends on tenant, rule and text."""
        text = self.text[:MOST_CHARS]
        return replace(self, text=text, id=stable_hash([self.tenant, self.guard, self.rule, text])[:20])

    def to_json(self) -> dict[str, Any]:
        """Plain values, times in ISO."""
        decided = None if self.decided_at is None else _iso(self.decided_at)
        return {"object": "review", **asdict(self), "at": _iso(self.at), "decided_at": decided}


class ReviewQueue:
    """The queue itself; see the module. Every call may block, and raises EnvironmentFaultError where the database does
    not answer.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    @classmethod
    def of(cls, home: Path, url: str = "") -> ReviewQueue:
        """The queue of this machine, or of ``trust.ledger.url``."""
        return cls(Database.of(home, url, ROOM, TABLES))

    def put(self, items: Sequence[Item]) -> int:
        """Queue what was found; how many items there was no room for."""
        left_out = 0
        with self._database.writing() as connection:
            for item in items:
                named = item.named
                again = _ITEMS.update().where(_ITEMS.c.id == named.id).values(times=_ITEMS.c.times + 1)
                if connection.execute(again).rowcount:
                    continue
                mine = _ITEMS.select().where(_ITEMS.c.tenant == item.tenant, _ITEMS.c.decision == "")
                counted = sql.select(sql.func.count()).select_from(mine.subquery())
                if connection.execute(counted).scalar_one() >= MOST_OPEN:
                    left_out += 1
                    continue
                row = {name: value for name, value in asdict(named).items() if name != "number"}
                connection.execute(_ITEMS.insert().values({**row, "at": self._clock()}))
        return left_out

    def page(self, state: State = "open", after: int = 0, most: int = 50) -> list[Item]:
        """Items with a larger number than ``after``, in their order."""
        wanted = _ITEMS.select().where(_ITEMS.c.number > after)
        if state != "all":
            wanted = wanted.where((_ITEMS.c.decision == "") if state == "open" else (_ITEMS.c.decision != ""))
        with self._database.reading() as connection:
            return [Item(**row) for row in connection.execute(wanted.order_by(_ITEMS.c.number).limit(most)).mappings()]

    def find(self, item: str) -> Item:
        """The item with this id.

        Raises:
            BadInputError: there is none.
        """
        with self._database.reading() as connection:
            row = connection.execute(_ITEMS.select().where(_ITEMS.c.id == item)).mappings().first()
        if row is None:
            raise BadInputError(
                "nothing with this id is to be reviewed; `plinth review list` shows what is", param="id"
            )
        return Item(**row)

    def decide(self, item: str, decision: Decision, by: str, note: str = "") -> Item:
        """Decide about an item, also anew; the last word counts.

        Raises:
            BadInputError: there is no such item.
        """
        found, now = self.find(item), self._clock()
        said = {"decision": decision, "by": by, "note": note, "decided_at": now}
        with self._database.writing() as connection:
            connection.execute(_ITEMS.update().where(_ITEMS.c.id == item).values(said))
        return replace(found, decision=decision, by=by, note=note, decided_at=now)

    def tidy(self, keep_days: int) -> int:
        """Remove what is older than it may be; how many items."""
        with self._database.writing() as connection:
            old = _ITEMS.delete().where(_ITEMS.c.at < self._clock() - keep_days * DAY_S)
            return int(connection.execute(old).rowcount)

    def erase_tenant(self, tenant: str) -> int:
        """Remove all items of a tenant; how many."""
        with self._database.writing() as connection:
            return int(connection.execute(_ITEMS.delete().where(_ITEMS.c.tenant == tenant)).rowcount)

    def everything(self, state: State) -> Iterator[Item]:
        """All items of a state, page by page."""
        after = 0
        while found := self.page(state, after, 500):
            yield from found
            after = found[-1].number


def labelled_rows(items: Sequence[Item]) -> list[dict[str, str]]:
    """Decisions as rows that ``plinth train safety --data`` takes: {text, label, set, slice?}; unclear ones are none.

    What a rule found and people call harmless is what guards have to tell apart from the rest: a look-alike. A set is
    a month: what was decided later tells how well a head that learnt from the earlier ones does.
    """
    rows = []
    for item in items:
        if item.decision in DECISIONS and item.decision != "unclear" and item.decided_at is not None:
            month = datetime.fromtimestamp(item.decided_at, UTC).strftime("%Y-%m")
            row = {"text": item.text, "label": item.decision, "set": f"{REVIEWED}{month}"}
            rows.append({**row, "label": "benign", "slice": "look_alike"} if item.decision == "harmless" else row)
    return rows


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
