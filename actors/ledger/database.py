"""A database of the platform, a SQLite file below PLINTH_HOME or in PostgreSQL, and the ledger's tables in it.

What was committed survives: SQLite writes its log to the disk with each transaction (``synchronous=FULL``), so that
neither a killed process nor a machine without power forgets a reservation that somebody was told of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    MetaData,
    Numeric,
    String,
    Table,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from cluster.core.errors import EnvironmentFaultError

LOCK = 7_046_029_254  # PostgreSQL's advisory lock of whoever writes; any number that nobody else takes
BUSY_MS = 1500  # how long a writer waits for another one
DATA = MetaData()


def _amounts() -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False, default=0) for name in ("requests", "tokens", "micro")]


COUNTERS = Table(
    "ledger_counters", DATA,
    Column("account", String, primary_key=True),  # "key/NAME" or "tenant/NAME"
    Column("span", String, primary_key=True),  # "slot", "day" or "month", counted since 1970, or since year 0
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    *_amounts(),
)  # fmt: skip
LEASES = Table(
    "ledger_leases", DATA,
    Column("lease", String, primary_key=True),
    Column("holder", String, nullable=False, index=True),
    Column("key_account", String, nullable=False, index=True),
    Column("tenant_account", String, nullable=False, index=True),
    *_amounts(),
    Column("due", Float, nullable=False),
    Column("charged", Boolean, nullable=False, default=False),
)  # fmt: skip
USAGE = Table(
    "ledger_usage", DATA,
    Column("day", String, primary_key=True),
    Column("key_id", String, primary_key=True),
    Column("tenant", String, primary_key=True),
    Column("tier", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("micro", BigInteger, nullable=False),
    Index("ledger_usage_tenant", "tenant", "day"),
)  # fmt: skip
HOLDERS = Table(
    "ledger_holders", DATA,
    Column("holder", String, primary_key=True),
    Column("number", BigInteger, nullable=False),  # of the last report
    Column("message", BigInteger, nullable=False),  # of the last message that changed anything
    Column("seen", Float, nullable=False),
)  # fmt: skip
TENANTS = Table(
    "ledger_tenants", DATA,
    Column("tenant", String, primary_key=True),
    Column("requests_per_minute", BigInteger), Column("tokens_per_minute", BigInteger),
    Column("tokens_per_day", BigInteger), Column("money_per_month", Numeric(asdecimal=False)),
)  # fmt: skip


class Database:
    """One database; several processes may write to it, one at a time.

    Args:
        url: as SQLAlchemy writes it, without a password; ``sqlite://`` is one in memory.
        tables: made where they are not there.
    """

    def __init__(self, url: str, tables: MetaData = DATA) -> None:
        self.url, self._tables = with_driver(url), tables
        self._engine: Engine | None = None

    @classmethod
    def of(cls, home: Path, url: str = "", room: str = "ledger", tables: MetaData = DATA) -> Database:
        """The one of ``trust.ledger.url``; empty: the file of this ``room`` below ``home``, readable by its owner only.

        Raises:
            EnvironmentFaultError: its folder cannot be made.
        """
        if url:
            return cls(url, tables)
        path = home / room / f"{room}.db"
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise EnvironmentFaultError(f"cannot write {path}: {error.strerror}", path=str(path)) from error
        return cls(f"sqlite:///{path}", tables)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer is in; committed at the end of the block, or nothing of it was done.

        Raises:
            EnvironmentFaultError: the database does not answer, is full, or its driver is not installed.
        """
        with self._errors(), self._connected().begin() as connection:
            _alone(connection)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads. Raises as ``writing``."""
        with self._errors(), self._connected().begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _connected(self) -> Engine:
        if self._engine is None:
            engine = _engine(self.url)
            with engine.begin() as connection:
                _alone(connection)  # two that make the same table at once would trip over each other
                self._tables.create_all(connection)
            self._engine = engine
        return self._engine

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ModuleNotFoundError as error:
            raise EnvironmentFaultError(
                f"the database {self.url} needs the package {error.name}: pip install 'plinth[postgres]'"
            ) from error
        except SQLAlchemyError as error:
            why = getattr(error, "orig", None) or error
            raise EnvironmentFaultError(f"the database {self.url} does not answer: {why}") from error


def _alone(connection: Connection) -> None:
    """Wait until no other writer is in a transaction (SQLite's transactions begin like that)."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 2})
    memory = {"poolclass": StaticPool} if url == "sqlite://" else {}
    engine = create_engine(url, connect_args={"check_same_thread": False}, **memory)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by itself, and too late
        for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def with_driver(url: str) -> str:
    """The address with the driver that is installed: psycopg 3, which SQLAlchemy takes only when it is named."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def add_to(connection: Connection, table: Table, row: dict[str, Any], adds: tuple[str, ...]) -> None:
    """Put a row into a table, or add to the columns ``adds`` of the one that is there."""
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    made = insert(table).values(row)
    keys = [column.name for column in table.primary_key]
    more = {name: table.c[name] + made.excluded[name] for name in adds}
    others = {name: made.excluded[name] for name in row if name not in keys and name not in adds}
    connection.execute(made.on_conflict_do_update(index_elements=keys, set_={**more, **others}))


def put_all(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Put rows with the same columns into a table, each in the place of one with its key: one statement, which to make
    takes longer than to put a row."""
    if not rows:
        return
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    made, keys = insert(table), [column.name for column in table.primary_key]
    others = {name: made.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(made.on_conflict_do_update(index_elements=keys, set_=others), rows)


def ledger_url(home: Path) -> str:
    """``trust.ledger.url`` of the configuration that the node of ``home`` was started with; empty for none."""
    path = home / "run" / "config.json"
    if not path.exists():
        return ""
    return str(json.loads(path.read_text()).get("trust", {}).get("ledger", {}).get("url", ""))
