"""A gateway's end of the ledger: no hop within a lease, exact where little is left, nothing free when it is down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from actors.ledger.amounts import Amount, Used
from actors.ledger.ledger import set_tenant_limits
from actors.ledger.spool import Spool, left_behind
from actors.ledger.usage import usage_rows
from actors.ledger.wallet import Hold, RefusedError, Wallet
from cluster.core.errors import EnvironmentFaultError
from cluster.core.identity import Limits
from tests.actors.ledger.books import House, key, need, used

DAY = "2027-01-15"


@pytest.fixture
def house(tmp_path: Path, home: Path) -> House:
    return House(tmp_path / "spool")


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def everybody(wallets: list[Wallet], calls: int, **limits: Any) -> tuple[list[Hold], int]:
    """So many requests of one key at once, one after the other to each gateway; what was granted, how many were not."""
    asked = [wallets[n % len(wallets)].reserve(key(**limits), need()) for n in range(calls)]
    said = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in said if isinstance(one, RefusedError)]
    return [one for one in said if isinstance(one, Hold)], len(refused)


@pytest.mark.parametrize(
    ("limits", "fit"),
    [
        ({"requests_per_minute": 10}, 10), ({"tokens_per_minute": 1050}, 10), ({"tokens_per_day": 1700}, 17),
        ({"requests_per_minute": 150, "tokens_per_day": 14_000}, 140),
    ],
)  # fmt: skip
def test_two_hundred_at_once_over_three_gateways_get_exactly_what_there_is(
    house: House, limits: dict[str, int], fit: int
) -> None:
    async def scene() -> None:
        wallets = [house.gateway() for _ in range(3)]
        granted, refused = await everybody(wallets, 200, **limits)
        assert (len(granted), refused) == (fit, 200 - fit)
        for wallet in wallets:
            await wallet.stop()

    play(scene)


def test_within_a_lease_nothing_is_asked(house: House) -> None:
    async def scene() -> None:
        wallet, who = house.gateway(), key(requests_per_minute=1_000_000)
        for _ in range(200):
            hold = await wallet.reserve(who, need())
            wallet.settle(hold, used(hold, 40))
        await wallet.stop()
        assert sum(row.requests for row in usage_rows(house.database, DAY, DAY)) == 200
        assert house.ledger.lent() == Amount()

    house.section = house.section.model_copy(update={"report_s": 60.0})
    play(scene)
    assert house.client.messages <= 12, "each lease is twice what the last one was good for"


def test_what_is_settled_may_be_used_again_at_once(house: House) -> None:
    async def scene() -> None:
        wallet, who = house.gateway(), key(tokens_per_day=1000)
        for _ in range(10):  # each reserves all there is left and uses a hundred
            hold = await wallet.reserve(who, need(1000, least=100))
            wallet.settle(hold, used(hold, 100))
        with pytest.raises(RefusedError) as refused:
            await wallet.reserve(who, need(1000, least=100))
        assert (refused.value.refusal.limit, refused.value.refusal.gone) == ("tokens_per_day", True)
        await wallet.stop()

    play(scene)


def test_a_key_without_limits_makes_no_hop_and_is_booked(house: House) -> None:
    async def scene() -> None:
        wallet, who = house.gateway(), key()
        hold = await wallet.reserve(who, need())
        heard = house.client.messages
        house.section = house.section.model_copy(update={"report_s": 60.0})
        for _ in range(100):
            wallet.settle(await wallet.reserve(who, need()), used(hold, 3))
        assert house.client.messages <= heard + 1
        await until(lambda: sum(row.requests for row in usage_rows(house.database, DAY, DAY)) == 100)
        set_tenant_limits(house.database, "lab", Limits(requests_per_minute=1))
        await until(lambda: "lab" in wallet._tenants)
        with pytest.raises(RefusedError) as refused:
            await wallet.reserve(who, need())
        assert refused.value.refusal.of_tenant
        await wallet.stop()

    play(scene)


def test_without_a_ledger_nothing_is_served(house: House) -> None:
    async def scene() -> None:
        wallet = house.gateway()
        house.client.down = True
        for who in (key(), key("ben", requests_per_minute=100)):
            with pytest.raises(EnvironmentFaultError, match="does not answer"):
                await wallet.reserve(who, need())
        house.client.down = False
        assert await wallet.reserve(key(), need())
        house.client.down = True
        assert await wallet.reserve(key(), need()), "for a while those without limits do not notice"
        house.clock.now += house.section.blind_s + 1
        with pytest.raises(EnvironmentFaultError):
            await wallet.reserve(key(), need())
        house.client.down = False
        assert await wallet.reserve(key("ben", requests_per_minute=100), need())
        await wallet.stop()

    house.section = house.section.model_copy(update={"wait_s": 1.0})
    play(scene)


def test_a_ledger_that_is_back_in_time_is_not_noticed(house: House) -> None:
    async def scene() -> None:
        wallet = house.gateway()
        house.client.down = True
        waiting = asyncio.create_task(wallet.reserve(key(requests_per_minute=1), need()))
        await until(lambda: house.client.messages > 1)
        house.client.down = False
        house.client.loses = 1  # and its first answer gets lost: what it lent then comes back
        assert (await waiting).amount == Amount(1, 100, 0)
        await wallet.stop()

    play(scene)


def test_who_left_while_waiting_holds_nothing(house: House) -> None:
    async def scene() -> None:
        wallet, who = house.gateway(), key(requests_per_minute=5)
        waiting = [asyncio.create_task(wallet.reserve(who, need())) for _ in range(5)]
        await asyncio.sleep(0)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len((await everybody([wallet], 9, requests_per_minute=5))[0]) == 5
        await wallet.stop()

    play(scene)


def test_a_lease_that_ended_goes_back_and_its_requests_go_on(house: House) -> None:
    async def scene() -> None:
        wallet, who = house.gateway(), key(requests_per_minute=1000)
        first = await wallet.reserve(who, need())
        wallet.settle(first, used(first, 10))
        long = await wallet.reserve(who, need())
        house.clock.now += house.section.lease_s + 1
        await until(lambda: house.ledger.lent() == long.amount)
        wallet.settle(long, used(long, 70))
        await until(lambda: house.ledger.lent() == Amount())
        (row,) = usage_rows(house.database, DAY, DAY)
        assert (row.requests, row.prompt_tokens) == (2, 80)
        await wallet.stop()

    play(scene)


def test_the_standing_counts_down(house: House) -> None:
    async def scene() -> None:
        wallet, who = house.gateway(), key(requests_per_minute=100, tokens_per_minute=10_000)
        lefts = []
        for _ in range(4):
            hold = await wallet.reserve(who, need())
            lefts.append((hold.standing.requests_left, hold.standing.tokens_left))
        assert lefts == [(99, 9900), (98, 9800), (97, 9700), (96, 9600)]
        assert (hold.standing.requests_limit, hold.standing.tokens_limit) == (100, 10_000)
        await wallet.stop()

    play(scene)


def test_what_a_killed_process_noted_is_booked_by_the_next_and_the_rest_comes_back(house: House) -> None:
    async def scene() -> None:
        dead, who = house.gateway(), key(tokens_per_day=1000)
        done = await dead.reserve(who, need(300))
        await dead.reserve(who, need(600))  # under way when it dies
        house.client.down = True
        dead.settle(done, used(done, 250))
        assert list(left_behind(house.folder)) == [], "it lives"
        dead._task.cancel()  # type: ignore[union-attr]
        dead._spool._shut()
        os_close(dead._spool)
        house.client.down = False
        other = house.gateway()
        await other.reserve(key("ben"), need())
        await until(lambda: house.ledger.lent() == Amount())
        assert [(row.requests, row.prompt_tokens) for row in usage_rows(house.database, DAY, DAY)] == [(1, 250)]
        assert (await other.reserve(who, need(750))).amount.tokens == 750
        with pytest.raises(RefusedError):
            await other.reserve(who, need(1))
        assert [path.name for path in house.folder.iterdir()] == [other.holder]
        await other.stop()

    play(scene)


def os_close(spool: Spool) -> None:
    """What the kernel does for a process that is killed."""
    import os

    os.close(spool._lock)


def test_a_note_that_was_cut_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    row = Used(DAY, "ann", "lab", "quote", 1, 2, 3, 4)
    spool.note(0, row)
    spool.note(1, row)
    spool.forget(0)
    spool._shut()
    path = next((tmp_path / spool.holder).glob("*.rows"))
    path.write_text(path.read_text() + '["2027-01-15", "ann", ')
    os_close(spool)
    (left,) = left_behind(tmp_path)
    assert [(report.number, report.rows) for report in left.reports] == [(1, (row,))]
