"""Who tries keys waits; who has one does not, whatever else comes from the same address."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from actors.ledger.key_book import KeyBook
from actors.ledger.keyring import Keyring, Session
from cluster.core.identity import SCOPES, Principal
from cluster.core.sections.trust import TrustSection
from cluster.haproxy_edge import CLIENT
from serve_apps.gateway.doorkeeper import Doorkeeper
from serve_apps.gateway.refusals import ELSEWHERE, MOST_ADDRESSES, WINDOW_S, Refusals, network
from tests.serve_apps.service import Service

MOST, SEAL = 5, "5ea1"


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Counted:
    """A real book that counts how often it is looked at."""

    def __init__(self, book: KeyBook) -> None:
        self._book, self.looks, self.redeemed = book, 0, 0

    def keyring(self, known: int = -1) -> Keyring | None:
        self.looks += 1
        return self._book.keyring(known)

    def redeem(self, code: str) -> str | None:
        self.redeemed += 1
        return self._book.redeem(code)

    def end(self, session: Session) -> None:
        self._book.end(session)


class Door:
    """A service, its clock, its book and one good key."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        book = KeyBook(folder / "keys.sqlite", bytes(32), self.clock)
        self.key, _ = book.create("one", Principal("", scopes=frozenset(SCOPES)))
        self.book, self.link = Counted(book), book.link
        self.told: list[Any] = []
        keeper = Doorkeeper(self.book, TrustSection(refusals_per_minute=MOST), 0, self.clock, SEAL)
        self.service = Service(doorkeeper=keeper, also=self.told.append)
        self.client: TestClient = self.service.client()

    def get(self, key: str = "", address: str = "192.0.2.1", path: str = "/v1/models", **headers: str) -> Any:
        given = {CLIENT: f"{SEAL}@{address}", **headers}
        return self.client.get(path, headers={**given, "authorization": f"Bearer {key}"} if key else given)

    def flood(self, key: str = "plinth_no_key") -> None:
        for _ in range(MOST):
            assert self.get(key).status_code == 401


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


@pytest.mark.parametrize("key", ["", "plinth_no_key", "sk-anything"])
def test_an_address_that_was_refused_too_often_waits_and_costs_nothing(door: Door, key: str) -> None:
    door.flood(key)
    door.clock.now += 1
    looks, told, written = door.book.looks, len(door.told), len(door.service.log)
    for _ in range(20):
        reply = door.get(key)
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "too_many_refused")
        assert reply.headers["retry-after"] == str(round(WINDOW_S) - 1)
    assert (door.book.looks, len(door.told), len(door.service.log)) == (looks, told, written)
    refused = [labels["reason"] for name, _, labels in door.service.recorder.values if name == "plinth_refused_total"]
    assert refused.count("too_many_refused") == 20, "but each is counted"
    assert door.get(key, address="192.0.2.2").status_code == 401, "another address does not wait"
    door.clock.now += WINDOW_S
    assert door.get(key).status_code == 401


def test_a_key_that_works_goes_on_from_the_same_address(door: Door) -> None:
    door.flood()
    assert door.get().status_code == 429
    assert door.get(door.key).status_code == 200, "though this gateway never saw it before"
    assert door.get(door.key + "x").status_code == 429
    door.clock.now += 10
    assert door.get(door.key).status_code == 200


def test_a_browser_goes_on_and_signs_in_from_an_address_that_waits(door: Door) -> None:
    door.flood("")
    assert door.get(path="/").status_code == 401, "the page shows where to sign in"
    given = {CLIENT: f"{SEAL}@192.0.2.1"}
    code = {"code": door.link("one")}
    assert door.client.post("/v1/plinth/session", json={"key": "no"}, headers=given).status_code == 429
    assert door.client.post("/v1/plinth/session", json=code, headers=given).status_code == 200
    assert door.get().status_code == 200, "with its session"


def test_who_tries_codes_waits_without_a_look_at_the_book(door: Door) -> None:
    given = {CLIENT: f"{SEAL}@192.0.2.1"}
    said = [door.client.post("/v1/plinth/session", json={"code": "x"}, headers=given) for _ in range(MOST + 3)]
    assert [reply.status_code for reply in said] == [401] * MOST + [429] * 3
    assert door.book.redeemed == MOST


def test_a_page_that_nobody_is_signed_in_to_is_no_refused_key(door: Door) -> None:
    for _ in range(MOST + 1):
        assert door.get(path="/").status_code == 401
    assert door.get().status_code == 401


@pytest.mark.parametrize("forged", ["{address}", "@{address}", "x@{address}", "5ea1@", "5EA1@{address}"])
def test_an_address_that_a_client_writes_down_itself_is_not_believed(door: Door, forged: str) -> None:
    """Nor what uvicorn makes of x-forwarded-for."""
    for number in range(MOST):
        made = forged.format(address=f"192.0.2.{number}")
        assert door.client.get("/v1/models", headers={CLIENT: made, "x-forwarded-for": made}).status_code == 401
    assert door.client.get("/v1/models", headers={CLIENT: forged.format(address="192.0.2.99")}).status_code == 429
    assert door.client.get("/v1/models").status_code == 429
    two = [(CLIENT, f"{SEAL}@192.0.2.7"), (CLIENT, f"{SEAL}@192.0.2.8")]
    assert door.client.get("/v1/models", headers=two).status_code == 429


def test_without_a_seal_nobody_is_believed(tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys.sqlite", bytes(32))
    client = Service(doorkeeper=Doorkeeper(book, TrustSection(refusals_per_minute=1))).client()
    assert client.get("/v1/models", headers={CLIENT: "@192.0.2.1"}).status_code == 401
    assert client.get("/v1/models", headers={CLIENT: "@192.0.2.2"}).status_code == 429


def test_failures_are_counted_by_why(tmp_path: Path) -> None:
    clock = Clock()
    book = KeyBook(tmp_path / "keys.sqlite", bytes(32), clock)
    who = Principal("", scopes=frozenset(SCOPES))
    good, _ = book.create("good", who)
    ended, _ = book.create("ended", who)
    late, _ = book.create("late", who, lifetime_s=1)
    book.revoke("ended")
    service = Service(doorkeeper=Doorkeeper(book, TrustSection(), 0, clock))
    client = service.client()
    clock.now += 10
    cookie = f"plinth_session_0=good.1.{'0' * 64}"
    asked: list[dict[str, str]] = [
        {}, {"cookie": cookie}, *({"authorization": f"Bearer {key}"} for key in (good, ended, late, ended + "x", "x")),
    ]  # fmt: skip
    statuses = [client.get("/v1/models", headers=headers).status_code for headers in asked]
    statuses += [client.post("/v1/plinth/session", json=body).status_code for body in ({"code": "x"}, {"key": late})]
    assert statuses == [401, 401, 200, *[401] * 6]
    client.get("/")
    counted = [labels for name, _, labels in service.recorder.values if name == "plinth_auth_failures_total"]
    assert [labels["reason"] for labels in counted] == [
        "no_key", "session_ended", "revoked_key", "expired_key", "unknown_key", "unknown_key", "no_code", "expired_key",
    ]  # fmt: skip


def test_what_counts_as_one_address() -> None:
    assert network("192.0.2.1") == network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("2001:db8::1") == network("2001:db8::ffff:0:1") != network("2001:db8:0:1::1")
    assert network("") == network("client") == network("192.0.2.256") == ELSEWHERE


def test_the_table_is_bounded_and_a_clock_that_is_set_back_ends_its_windows() -> None:
    clock = Clock()
    refusals = Refusals(1, clock)
    for number in range(MOST_ADDRESSES + 10):
        refusals.note(str(number))
    assert len(refusals) == MOST_ADDRESSES
    assert (refusals.wait_s("0"), refusals.wait_s(str(MOST_ADDRESSES))) == (0, WINDOW_S)
    clock.now -= 10
    assert refusals.wait_s(str(MOST_ADDRESSES)) == 0
    refusals.note(str(MOST_ADDRESSES))
    assert refusals.wait_s(str(MOST_ADDRESSES)) == WINDOW_S
