"""The book of keys: what is kept, who is recognised, what several processes do to it at once."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.ledger import key_book
from actors.ledger.key_book import KeyBook, local_key
from actors.ledger.keyring import Keyring, Session
from cluster.core.errors import BadInputError, EnvironmentFaultError, UsageError
from cluster.core.home import Home
from cluster.core.identity import SCOPES, Limits, Principal

ANN = Principal(
    "", "finance", frozenset({"audit", "board"}), frozenset({"chat", "search"}), ("quote",), ("main",),
    Limits(requests_per_minute=5, money_per_month=2.5),
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def book(home: Home) -> KeyBook:
    return KeyBook.of(home)


def ring(book: KeyBook) -> Keyring:
    found = book.keyring()
    assert found is not None
    return found


def test_a_key_is_recognised_as_what_it_was_made(book: KeyBook, home: Home) -> None:
    text, key = book.create("ann", ANN)
    found = ring(KeyBook.of(home)).recognise(text, key.created_at)
    assert found == key.principal
    assert found is not None
    assert (found.tenant, found.groups, found.limits) == (ANN.tenant, ANN.groups, ANN.limits)
    assert found.key_id == text.split("_")[1]


def test_nothing_of_a_key_but_its_hash_is_kept(book: KeyBook, home: Home) -> None:
    text, key = book.create("ann", ANN)
    book.rotate("ann", 60)
    secret = text.split("_", 2)[2]
    for path in home.root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0, path
    assert secret not in repr(ring(book))
    assert key.digest not in repr(key)


def test_another_pepper_recognises_nobody(book: KeyBook, home: Home) -> None:
    text, key = book.create("ann", ANN)
    (home.root / "trust" / "pepper").write_text("00" * 32)
    assert ring(KeyBook.of(home)).recognise(text, key.created_at) is None
    (home.root / "trust" / "pepper").write_text("00")
    with pytest.raises(EnvironmentFaultError, match="backup"):
        KeyBook.of(home)


def test_a_look_that_finds_nothing_new_says_so(book: KeyBook, home: Home) -> None:
    first = ring(book)
    assert book.keyring(first.version) is None
    assert KeyBook.of(home).keyring(first.version) is None, "to open a book changes nothing"
    book.create("ann", ANN)
    assert book.keyring(first.version) is not None
    second = ring(book)
    book.link("ann")
    assert book.keyring(second.version) is None, "links are nobody's keys"
    book.revoke("ann")
    assert book.keyring(second.version) is not None


@pytest.mark.parametrize(
    ("change", "word"),
    [({"tenant": "Finance"}, "tenant"), ({"tenant": "../x"}, "tenant"), ({"tenant": ""}, "tenant"),
     ({"groups": frozenset({"a b"})}, "group"), ({"scopes": frozenset({"root"})}, "scope"),
     ({"scopes": frozenset()}, "scope")],
)  # fmt: skip
def test_what_cannot_be_is_refused(book: KeyBook, change: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        book.create("ann", Principal(**{"key_id": "", "scopes": frozenset({"chat"}), **change}))  # type: ignore[arg-type]
    assert book.entries() == []


def test_a_name_is_taken_while_its_key_is_active(book: KeyBook) -> None:
    book.create("ann", ANN)
    with pytest.raises(UsageError, match="rotate"):
        book.create("ann", ANN)
    book.revoke("ann")
    book.create("ann", ANN)
    with pytest.raises(BadInputError):
        book.revoke("bob")


def test_the_local_key_is_made_once_and_again_when_it_no_longer_works(book: KeyBook, home: Home) -> None:
    first = local_key(book, home)
    assert local_key(book, home) == first == home.api_key()
    assert home.api_key_path.stat().st_mode & 0o777 == 0o600
    assert ring(book).recognise(first, 0) is not None
    home.api_key_path.write_text("plinth_lost_x")
    second = local_key(book, home)
    assert second != first
    assert ring(book).recognise(first, 0) is None
    book.revoke("local")
    third = local_key(book, home)
    found = ring(book).recognise(third, 0)
    assert found is not None
    assert found.scopes == set(SCOPES)


def test_a_link_is_used_up_by_one_of_many(book: KeyBook) -> None:
    _, key = book.create("ann", ANN)
    code = book.link("ann")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: book.redeem(code), range(32)))
    assert [one for one in found if one] == [key.key_id]


def _make(root: Path, count: int) -> None:
    book = KeyBook.of(Home(root))
    for number in range(count):
        book.create(f"k-{multiprocessing.current_process().pid}-{number}", ANN)


@pytest.mark.process
def test_processes_that_write_at_once_lose_nothing(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_make, args=(home.root, 10)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(KeyBook.of(home).entries()) == 40


def test_a_book_that_cannot_be_read_says_so(home: Home) -> None:
    KeyBook.of(home)
    (home.root / "trust" / "keys.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(EnvironmentFaultError, match="book of keys"):
        KeyBook.of(home)


def test_sessions_that_were_signed_out_are_kept_until_they_would_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_book, "MOST_ENDED", 3)
    now = [1000.0]
    book = KeyBook(tmp_path / "keys.sqlite", bytes(32), lambda: now[0])
    for number in range(5):
        book.end(Session("ann", f"s{number}", 1100.0 + number))
    book.end(Session("bob", "s0", 1010.0))
    before = ring(book)
    assert before.ended == {("ann", "s2"), ("ann", "s3"), ("ann", "s4"), ("bob", "s0")}, "of each key so many at most"
    now[0] = 1050.0
    book.end(Session("ann", "late", 9000.0))
    after = book.keyring(before.version)
    assert after is not None, "gateways hear of it"
    assert after.ended == {("ann", "s3"), ("ann", "s4"), ("ann", "late")}
