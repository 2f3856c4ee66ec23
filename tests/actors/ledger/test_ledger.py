"""The ledger with a clock that is turned by hand: windows, refusals, what comes back, and never more than a limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ledger.amounts import (
    DAY,
    MONTH,
    REQUESTS,
    TOKENS,
    Amount,
    Ask,
    Grant,
    Message,
    Need,
    Refusal,
    Report,
    Returned,
    Used,
    micro,
)  # fmt: skip
from actors.ledger.database import DATA, Database
from actors.ledger.ledger import Ledger, OvertakenError, set_tenant_limits, tenant_limits
from actors.ledger.usage import usage_rows
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.identity import Limits
from tests.actors.ledger.books import DUE_S, NOON, Clock, need


class Gateway:
    """A gateway that says what a test wants it to say."""

    def __init__(self, ledger: Ledger, name: str = "g") -> None:
        self.ledger, self.name, self.number = ledger, name, 0
        self.alive: list[str] = []

    def ask(self, *needs: Need, limits: Limits, key: str = "ann", tenant: str = "lab", more: int = 0) -> Grant:
        lease = f"{self.name}-{self.number}"
        self.number += 1
        ask = Ask(lease, key, tenant, limits, needs, Amount(more, more * 100, 0))
        self.alive.append(lease)
        return self.ledger.exchange(Message(self.name, self.number, tuple(self.alive[:-1]), (), (ask,))).grants[0]

    def settle(self, lease: str, tokens: int, money: int = 0, day: str = "2027-01-15", key: str = "ann") -> None:
        self.alive.remove(lease)
        row = Used(day, key, "lab", "quote", 1, tokens, 0, money)
        self.number += 1
        self.ledger.exchange(Message(self.name, self.number, tuple(self.alive), (Report(self.number, (row,)),)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database() -> Database:
    return Database("sqlite://")


@pytest.fixture
def gateway(database: Database, clock: Clock) -> Gateway:
    return Gateway(Ledger(database, DUE_S, clock))


def refusal(grant: Grant) -> Refusal:
    (said,) = grant.granted
    assert isinstance(said, Refusal)
    return said


def test_a_minute_is_any_sixty_seconds(gateway: Gateway, clock: Clock) -> None:
    limits = Limits(requests_per_minute=3)
    clock.now = NOON + 58  # a minute of the clock ends in two seconds: it does not matter
    for _ in range(3):
        gateway.settle(gateway.ask(need(), limits=limits).lease, 10)
    clock.now += 30
    said = refusal(gateway.ask(need(), limits=limits))
    assert (said.limit, said.gone, said.never) == (REQUESTS, False, False)
    clock.now += said.retry_s - 0.001
    assert isinstance(gateway.ask(need(), limits=limits).granted[0], Refusal), "not a moment before"
    clock.now += 0.001
    assert gateway.ask(need(), limits=limits).granted == (Amount(1, 100, 0),)
    assert clock.now - NOON - 58 <= 65


def test_who_comes_first_is_served_first_and_the_rest_is_told_why(gateway: Gateway) -> None:
    grant = gateway.ask(need(600), need(600), need(400), limits=Limits(tokens_per_minute=1000))
    assert grant.granted[0] == Amount(1, 600, 0)
    assert isinstance(grant.granted[1], Refusal)
    assert grant.granted[1].limit == TOKENS
    assert grant.granted[2] == Amount(1, 400, 0), "what is small enough still fits"
    assert grant.rest == Amount()
    standing = grant.standing
    assert (standing.tokens_limit, standing.tokens_left, standing.requests_limit) == (1000, 0, None)


def test_a_request_that_makes_do_with_less_gets_what_is_there(gateway: Gateway) -> None:
    limits = Limits(tokens_per_day=1000)
    gateway.settle(gateway.ask(need(700), limits=limits).lease, 700)
    assert gateway.ask(need(500, least=100), limits=limits).granted == (Amount(1, 300, 0),)


def test_days_and_months_are_those_of_the_calendar(gateway: Gateway, clock: Clock) -> None:
    daily, monthly = Limits(tokens_per_day=1000), Limits(money_per_month=2.0)
    gateway.settle(gateway.ask(need(1000, micro=1_500_000), limits=daily).lease, 1000, 1_500_000)
    said = refusal(gateway.ask(need(), limits=daily))
    assert (said.limit, said.gone, said.retry_s) == (DAY, True, 12 * 3600)
    said = refusal(gateway.ask(need(micro=600_000), limits=monthly))
    assert (said.limit, said.gone) == (MONTH, True)
    assert datetime.fromtimestamp(clock.now + said.retry_s, UTC) == datetime(2027, 2, 1, tzinfo=UTC)
    assert gateway.ask(need(micro=500_000), limits=monthly).granted == (Amount(1, 100, 500_000),)
    clock.now += 12 * 3600
    assert gateway.ask(need(1000), limits=daily).granted == (Amount(1, 1000, 0),)


def test_what_others_have_reserved_may_come_back_so_it_is_no_quota_that_is_gone(gateway: Gateway) -> None:
    limits = Limits(tokens_per_day=1000)
    held = gateway.ask(need(1000), limits=limits).lease
    said = refusal(gateway.ask(need(), limits=limits))
    assert (said.limit, said.gone) == (DAY, False)
    gateway.settle(held, 200)
    assert gateway.ask(need(800), limits=limits).granted == (Amount(1, 800, 0),)


def test_more_than_a_limit_in_one_request_is_never_served(gateway: Gateway) -> None:
    for limits in (Limits(tokens_per_minute=1000), Limits(tokens_per_day=1000)):
        said = refusal(gateway.ask(need(1001), limits=limits))
        assert (said.never, said.least, said.most, said.whole) == (True, 1001, 1001, 1000)


def test_a_tenant_s_limits_hold_for_all_its_keys(gateway: Gateway, database: Database) -> None:
    set_tenant_limits(database, "lab", Limits(requests_per_minute=2))
    assert tenant_limits(database) == {"lab": Limits(requests_per_minute=2)}
    assert gateway.ask(need(), limits=Limits(), key="ann").granted == (Amount(1, 100, 0),)
    assert gateway.ask(need(), limits=Limits(requests_per_minute=9), key="ben").granted == (Amount(1, 100, 0),)
    assert refusal(gateway.ask(need(), limits=Limits(), key="cat")).of_tenant
    assert gateway.ask(need(), limits=Limits(), key="dan", tenant="other").granted == (Amount(1, 100, 0),)
    set_tenant_limits(database, "lab", Limits())
    assert tenant_limits(database) == {}


def test_a_gateway_gets_a_share_of_what_is_left_beside_what_it_needs(gateway: Gateway) -> None:
    assert gateway.ask(need(), limits=Limits(requests_per_minute=161), more=50).rest.requests == 10
    few = gateway.ask(need(), limits=Limits(requests_per_minute=12), more=50, key="ben")
    assert few.rest.requests == 0, "of few requests each goes where it is asked for"


def test_a_lease_of_which_the_gateway_never_heard_comes_back(gateway: Gateway) -> None:
    limits = Limits(requests_per_minute=1)
    gateway.ask(need(), limits=limits)
    gateway.alive.clear()  # the answer got lost
    assert gateway.ask(need(), limits=limits).granted == (Amount(1, 100, 0),)


def test_what_nobody_accounts_for_counts_as_used_until_somebody_does(
    gateway: Gateway, clock: Clock, database: Database
) -> None:
    limits = Limits(tokens_per_day=1000)
    lost, other = gateway.ask(need(900), limits=limits).lease, Gateway(gateway.ledger, "other")
    assert gateway.ledger.lent() == Amount(1, 900, 0)
    clock.now += DUE_S + 1
    assert refusal(other.ask(need(200), limits=limits)).gone, "it may have been used: too little rather than too much"
    assert gateway.ledger.lent() == Amount(), "but nothing is lent any more"
    assert other.ask(need(100), limits=limits).granted == (Amount(1, 100, 0),)
    gateway.settle(lost, 50)  # its gateway was only slow
    assert refusal(other.ask(need(851), limits=limits)).limit == DAY
    assert other.ask(need(850), limits=limits).granted == (Amount(1, 850, 0),)


def test_a_report_that_comes_twice_is_booked_once(gateway: Gateway, database: Database) -> None:
    lease = gateway.ask(need(), limits=Limits(requests_per_minute=9)).lease
    report = Report(7, (Used("2027-01-15", "ann", "lab", "quote", 1, 30, 20, 5),), (Returned(lease, Amount(1, 50, 0)),))
    for number in (10, 11, 12):
        gateway.ledger.exchange(Message("g", number, (lease,), (report,)))
    (row,) = usage_rows(database, "2027-01-15", "2027-01-15")
    assert (row.requests, row.prompt_tokens, row.completion_tokens, row.money) == (1, 30, 20, 0.000005)
    assert gateway.ledger.lent() == Amount(0, 50, 0)


def test_a_message_that_was_overtaken_takes_nothing_away(gateway: Gateway) -> None:
    limits = Limits(requests_per_minute=2)
    gateway.ask(need(), limits=limits)
    lent = gateway.ledger.lent()
    with pytest.raises(OvertakenError):
        gateway.ledger.exchange(Message("g", 0))  # it does not know of the lease
    assert gateway.ledger.lent() == lent
    gateway.ledger.exchange(Message("g", 9))
    assert gateway.ledger.lent() == Amount()


def test_usage_is_told_by_day_key_tenant_and_tier(gateway: Gateway, database: Database) -> None:
    days = ("2027-01-14", "2027-01-15")
    rows = [Used(day, name, f"of-{name}", tier, 2, 10, 5, 7) for day in days for name in "ab" for tier in ("q", "s")]
    gateway.ledger.exchange(Message("g", 0, (), (Report(1, tuple(rows)), Report(2, tuple(rows)))))
    assert len(usage_rows(database, *days)) == 8
    found = usage_rows(database, "2027-01-15", "2027-01-31", tenant="of-b")
    assert [(row.day, row.key_id, row.tenant, row.tier, row.requests) for row in found] == [
        ("2027-01-15", "b", "of-b", "q", 4), ("2027-01-15", "b", "of-b", "s", 4),
    ]  # fmt: skip
    assert usage_rows(database, *days, key_id="a", tenant="of-b") == []
    with pytest.raises(UsageError, match="is no day"):
        usage_rows(database, "yesterday")


def test_money_is_rounded_up_and_counted_in_whole_numbers() -> None:
    assert micro(0.1, 3) == 300
    assert micro(0.000001, 1) == 1
    assert micro(2.0, 1500) == 3_000_000
    assert micro(0.0, 10**9) == 0


def test_a_database_that_does_not_answer_is_said(tmp_path: str) -> None:
    with pytest.raises(EnvironmentFaultError, match="does not answer"):
        Ledger(Database(f"sqlite:///{tmp_path}/none/ledger.db"), DUE_S).exchange(Message("g", 0))


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "settle", "pass", "die", "late"]), st.integers(0, 2), st.integers(0, 2),
        st.integers(1, 60), st.integers(0, 60),
    ),
    max_size=40,
)  # fmt: skip


SHARED = Database("sqlite://")  # making one takes longer than an example


@settings(max_examples=60, deadline=None)
@given(steps)
def test_whatever_happens_no_limit_is_exceeded(todo: list[tuple[str, int, int, int, int]]) -> None:
    """Three gateways, three keys of one tenant. A shadow of what really was used is held against every limit."""
    clock, database = Clock(), SHARED
    with database.writing() as connection:
        for table in DATA.sorted_tables:
            connection.execute(table.delete())
    ledger = Ledger(database, DUE_S, clock)
    key_limits, of_tenant = Limits(3, 120, 200, 0.0005), Limits(5, 200, 300, 0.0008)
    set_tenant_limits(database, "lab", of_tenant)
    gateways = [Gateway(ledger, f"g{n}") for n in range(3)]
    held: list[tuple[Gateway, str, str, Amount, float]] = []
    spent: list[tuple[float, str, Amount]] = []

    for kind, which, who, tokens, share in todo:
        gateway, key = gateways[which], f"key{who}"
        if kind == "ask":
            wanted = Need(Amount(1, tokens, tokens * 2), Amount(1, min(tokens, 5), min(tokens, 5) * 2))
            grant = gateway.ask(wanted, limits=key_limits, key=key)
            if isinstance(got := grant.granted[0], Amount):
                assert wanted.most.covers(got)
                assert got.covers(wanted.least)
                held.append((gateway, grant.lease, key, got, clock.now))
        elif kind == "settle" and held:
            gateway, lease, key, got, _ = held.pop(share % len(held))
            part = replace(got, tokens=got.tokens * share // 60, micro=got.micro * share // 60)
            spent.append((clock.now, key, part))
            gateway.settle(lease, part.tokens, part.micro, _day(clock.now), key)
        elif kind == "die":  # it had used all of it, and tells nobody
            for one in [one for one in held if one[0] is gateway]:
                held.remove(one)
                spent.append((clock.now, one[2], one[3]))
            gateways[which] = Gateway(ledger, f"{gateway.name}'")
        else:
            clock.now += tokens * (40 if kind == "late" else 1)
            for one in [one for one in held if clock.now - one[4] > DUE_S - 1]:  # nobody holds on for so long
                held.remove(one)
                spent.append((one[4] + DUE_S - 1, one[2], one[3]))
                one[0].settle(one[1], one[3].tokens, one[3].micro, _day(clock.now), one[2])
        for account, limits in ((None, of_tenant), *((f"key{n}", key_limits) for n in range(3))):
            mine = [(at, amount) for at, name, amount in spent if account in (None, name)]
            _within(limits, mine)


def _within(limits: Limits, spent: list[tuple[float, Amount]]) -> None:
    for begins, _ in spent:
        minute = [amount for at, amount in spent if begins <= at < begins + 60]
        assert sum(amount.requests for amount in minute) <= (limits.requests_per_minute or 0)
        assert sum(amount.tokens for amount in minute) <= (limits.tokens_per_minute or 0)
    for day in {_day(at) for at, _ in spent}:
        assert sum(amount.tokens for at, amount in spent if _day(at) == day) <= (limits.tokens_per_day or 0)
    assert sum(amount.micro for _, amount in spent) <= round((limits.money_per_month or 0) * 1_000_000)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
