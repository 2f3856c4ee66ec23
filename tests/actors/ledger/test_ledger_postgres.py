"""The ledger in a real PostgreSQL server: the same as in a file, with several writers at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from actors.ledger.amounts import Amount, Ask, Message, Refusal, Report, Returned, Used
from actors.ledger.database import Database, ledger_url
from actors.ledger.ledger import Ledger, set_tenant_limits, tenant_limits
from actors.ledger.usage import usage_rows
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.identity import Limits
from cluster.core.presets import preset
from tests.actors.ledger.books import DUE_S, Clock, need
from tests.actors.ledger.test_ledger_killed import killed_and_still_exact

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]


def test_ledgers_on_one_server_share_the_books(postgres: str) -> None:
    clock, limits = Clock(), Limits(requests_per_minute=40, money_per_month=1.0)
    granted: list[Amount | Refusal] = []

    def asks(number: int) -> None:
        ledger = Ledger(Database(postgres), DUE_S, clock)
        for turn in range(10):
            held = tuple(f"g{number}-{before}" for before in range(turn))
            ask = Ask(f"g{number}-{turn}", "cat", "zoo", limits, (need(),))
            granted.extend(ledger.exchange(Message(f"g{number}", turn, held, (), (ask,))).grants[0].granted)

    threads = [threading.Thread(target=asks, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, Amount) for one in granted) == 40
    assert sum(isinstance(one, Refusal) for one in granted) == 20

    database = Database(postgres)
    ledger = Ledger(database, DUE_S, clock)
    assert ledger.lent() == Amount(40, 4000, 0)
    row = Used("2027-01-15", "cat", "zoo", "quote", 1, 60, 40, 250_000)
    report = Report(0, (row,), (Returned("g0-0", Amount(1, 100, 0)),))
    for number in (10, 11):
        ledger.exchange(Message("g0", number, (), (report,)))
    (found,) = usage_rows(database, "2027-01-15", "2027-01-15")
    assert (found.requests, found.money) == (1, 0.25)
    clock.now += DUE_S + 1
    ledger.exchange(Message("g9", 0))
    assert ledger.lent() == Amount()
    set_tenant_limits(database, "zoo", Limits(money_per_month=0.5))
    set_tenant_limits(database, "zoo", Limits(money_per_month=0.75, tokens_per_day=9))
    assert tenant_limits(database) == {"zoo": Limits(money_per_month=0.75, tokens_per_day=9)}
    database.close()


def test_killed_processes_with_books_on_the_server(postgres: str, tmp_path: Path, home: Path) -> None:
    killed_and_still_exact(tmp_path, f"{postgres}", home)


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFaultError, match="does not answer"):
        Ledger(Database(f"postgresql://postgres@/none?host={tmp_path}"), DUE_S).lent()


def test_the_address_holds_no_password(tmp_path: Path) -> None:
    uri = "postgresql://plinth@db.example/books"
    config = preset("cluster", [f"trust.ledger.url={uri}"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config.model_dump_json())
    assert ledger_url(tmp_path) == uri
    assert ledger_url(tmp_path / "nowhere") == ""
    for wrong in ("postgresql://plinth:secret@db/books", "postgresql://db/books?password=x", "mysql://db/books",
                  "postgresql://db"):  # fmt: skip
        with pytest.raises(UsageError, match=r"trust\.ledger\.url|ledger"):
            preset("cluster", [f"trust.ledger.url={wrong}"])
