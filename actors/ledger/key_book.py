"""The book of API keys: who they stand for, until when, revoked or not. What is kept of a key is an HMAC.

The book is a SQLite file below the head's PLINTH_HOME and no actor's memory. The gateways, which run on the head, read
it again every ``trust.key_check_s``: so a killed process of any kind neither opens nor closes the service, and
``plinth keys`` works while nothing runs.

A key is ``plinth_ID_SECRET``: the id is public and finds the row, the secret has 256 random bits, for which one keyed
hash is as good as a slow one. The hash's key, the pepper, lies in a file of its own: who reads the database alone can
test no guess.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from actors.ledger.keyring import PREFIX, Key, Keyring, Session, digest_of
from cluster.core.errors import BadInputError, EnvironmentFaultError, UsageError
from cluster.core.home import Home, write_private
from cluster.core.identity import SCOPES, Principal

LOCAL_NAME = "local"  # the key that `plinth up` makes for this machine's user
LINK_S = 900.0
MOST_ENDED = 1000  # sessions of one key that were signed out; the one that ends soonest anyway makes room
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TABLES = sql.MetaData()
_KEYS = sql.Table(
    "plinth_keys", _TABLES,
    sql.Column("key_id", sql.String(16), primary_key=True),
    sql.Column("name", sql.String(64), nullable=False),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("old_digest", sql.String(64), nullable=False, default=""),
    sql.Column("old_until", sql.Float, nullable=False, default=0.0),
    sql.Column("principal", sql.Text, nullable=False),
    sql.Column("created_at", sql.Float, nullable=False),
    sql.Column("expires_at", sql.Float),
    sql.Column("revoked_at", sql.Float),
)  # fmt: skip
_LINKS = sql.Table(
    "plinth_links", _TABLES,
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("key_id", sql.String(16), nullable=False),
    sql.Column("expires_at", sql.Float, nullable=False),
)  # fmt: skip
_ENDED = sql.Table(
    "plinth_ended_sessions", _TABLES,
    sql.Column("key_id", sql.String(16), primary_key=True),
    sql.Column("name", sql.String(16), primary_key=True),
    sql.Column("until", sql.Float, nullable=False),
)  # fmt: skip
_VERSION = sql.Table(
    "plinth_keys_version", _TABLES, sql.Column("one", sql.Integer, primary_key=True), sql.Column("version", sql.Integer)
)


class KeyBook:
    """The book itself; see the module. Every write is one transaction and raises the book's version.

    Args:
        path: of the file; made where there is none, for its owner only.
        pepper: the key of the hashes; 32 bytes.
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, pepper: bytes, clock: Callable[[], float] = time.time) -> None:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._engine = sql.create_engine(f"sqlite:///{path}")
        self._pepper, self._clock = pepper, clock
        with self._writing(count=False) as connection:
            for table in _TABLES.sorted_tables:  # several processes may be the first
                connection.execute(CreateTable(table, if_not_exists=True))
            connection.execute(_VERSION.insert().prefix_with("OR IGNORE").values(one=1, version=0))

    @classmethod
    def of(cls, home: Home) -> KeyBook:
        """The book of this machine; made where there is none.

        Raises:
            EnvironmentFaultError: its folder or file cannot be written.
        """
        return cls(home.folder("trust") / "keys.sqlite", pepper_of(home))

    def create(self, name: str, principal: Principal, lifetime_s: float | None = None) -> tuple[str, Key]:
        """A new key, and its text, which nobody can read again. The principal's ``key_id`` is chosen here.

        Raises:
            UsageError: a name, tenant, group or scope that cannot be one, or another active key has the name.
        """
        _check(name, principal, lifetime_s)
        now = self._clock()
        if any(key.name == name and key.state(now) == "active" for key in self.entries()):
            raise UsageError(f"there is a key called {name!r}: `plinth keys rotate {name}` gives it a new secret")
        key_id = secrets.token_hex(5)
        text, digest = self._text(key_id)
        key = Key(
            name,
            replace(principal, key_id=key_id),
            now,
            None if lifetime_s is None else now + lifetime_s,
            digest=digest,
        )
        with self._writing() as connection:
            connection.execute(
                _KEYS.insert().values(
                    key_id=key_id, name=name, digest=digest, old_digest="", old_until=0.0, created_at=now,
                    expires_at=key.expires_at, principal=json.dumps(key.principal.to_json()),
                )
            )  # fmt: skip
        return text, key

    def rotate(self, which: str, overlap_s: float = 0.0) -> tuple[str, Key]:
        """A new secret for a key, which stays what it is; the old one works for ``overlap_s`` more seconds.

        Raises:
            BadInputError: no active key has this id or name.
        """
        key = self.find(which)
        text, digest = self._text(key.key_id)
        before = key.digest if overlap_s > 0 else ""
        made = replace(key, digest=digest, old_digest=before, old_until=self._clock() + overlap_s)
        changed = {name: getattr(made, name) for name in ("digest", "old_digest", "old_until")}
        with self._writing() as connection:
            connection.execute(_KEYS.update().where(_KEYS.c.key_id == key.key_id).values(changed))
        return text, made

    def revoke(self, which: str) -> Key:
        """End a key for good.

        Raises:
            BadInputError: no active key has this id or name.
        """
        key, now = self.find(which), self._clock()
        with self._writing() as connection:
            connection.execute(_KEYS.update().where(_KEYS.c.key_id == key.key_id).values(revoked_at=now))
        return replace(key, revoked_at=now)

    def find(self, which: str) -> Key:
        """The active key with this id or name.

        Raises:
            BadInputError: there is none.
        """
        now = self._clock()
        active = [key for key in self.entries() if key.state(now) == "active"]
        for key in active:
            if which in (key.key_id, key.name):
                return key
        raise BadInputError(f"no active key is called {which!r}; `plinth keys list` shows those there are")

    def entries(self) -> list[Key]:
        """All keys that ever were, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(_KEYS.select().order_by(_KEYS.c.created_at)).mappings().all()
        return [_key(row) for row in rows]

    def keyring(self, known: int = -1) -> Keyring | None:
        """The keys as they are; None where the book still has the version ``known``.

        Raises:
            EnvironmentFaultError: the database does not answer.
        """
        with self._reading() as connection:
            version = int(connection.execute(sql.select(_VERSION.c.version)).scalar_one())
            if version == known:
                return None
            rows = connection.execute(_KEYS.select()).mappings().all()
            ended = connection.execute(sql.select(_ENDED.c.key_id, _ENDED.c.name)).all()
        found = frozenset((str(key_id), str(name)) for key_id, name in ended)
        return Keyring(version, {row["key_id"]: _key(row) for row in rows}, self._pepper, found)

    def recognises(self, text: str) -> bool:
        """Whether this is a key that works now."""
        ring = self.keyring()
        return ring is not None and ring.recognise(text, self._clock()) is not None

    def link(self, which: str, lasts_s: float = LINK_S) -> str:
        """A code that signs one browser in, once, as this key.

        Raises:
            BadInputError: no active key has this id or name.
        """
        key, code = self.find(which), secrets.token_urlsafe(24)
        with self._writing(count=False) as connection:
            connection.execute(_LINKS.delete().where(_LINKS.c.expires_at < self._clock()))
            connection.execute(
                _LINKS.insert().values(
                    digest=digest_of(self._pepper, code), key_id=key.key_id, expires_at=self._clock() + lasts_s
                )
            )
        return code

    def redeem(self, code: str) -> str | None:
        """The id of the key that a code signs in as; None: it is none, was used, or came too late. It is used up."""
        gone = _LINKS.delete().where(
            _LINKS.c.digest == digest_of(self._pepper, code), _LINKS.c.expires_at > self._clock()
        )
        with self._writing(count=False) as connection:
            found = connection.execute(gone.returning(_LINKS.c.key_id)).first()
        return None if found is None else str(found[0])

    def end(self, session: Session) -> None:
        """Sign a session out, for good: its cookie is of no use to anybody.

        Raises:
            EnvironmentFaultError: the database cannot be written.
        """
        own = _ENDED.c.key_id == session.key_id
        with self._writing() as connection:
            connection.execute(_ENDED.delete().where(_ENDED.c.until < self._clock()))
            connection.execute(_ENDED.insert().prefix_with("OR IGNORE").values(asdict(session)))
            kept = sql.select(_ENDED.c.name).where(own).order_by(_ENDED.c.until.desc()).limit(MOST_ENDED)
            connection.execute(_ENDED.delete().where(own, _ENDED.c.name.not_in(kept)))

    def _text(self, key_id: str) -> tuple[str, str]:
        secret = secrets.token_urlsafe(32)
        return f"{PREFIX}_{key_id}_{secret}", digest_of(self._pepper, secret)

    @contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise EnvironmentFaultError(f"the book of keys cannot be read: {_said(error)}") from None

    @contextmanager
    def _writing(self, count: bool = True) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
                if count:
                    connection.execute(_VERSION.update().values(version=_VERSION.c.version + 1))
        except SQLAlchemyError as error:
            raise EnvironmentFaultError(f"the book of keys cannot be written: {_said(error)}") from None


def local_key(book: KeyBook, home: Home) -> str:
    """The key of this machine's user, with every scope, in ``PLINTH_HOME/api_key`` (0600): made where there is none
    that works, so that ``ask``, the page and examples need no copying."""
    held = home.api_key()
    if held and book.recognises(held):
        return held
    try:
        text, _ = book.rotate(LOCAL_NAME)
    except BadInputError:
        text, _ = book.create(LOCAL_NAME, Principal("", scopes=frozenset(SCOPES)))
    write_private(home.api_key_path, text + "\n")
    return text


def pepper_of(home: Home) -> bytes:
    """The key of this machine's hashes, 32 bytes; made where there is none.

    Raises:
        EnvironmentFaultError: it cannot be read or written.
    """
    path = home.folder("trust") / "pepper"
    try:
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        found = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise EnvironmentFaultError(f"cannot read the secret of the keys' hashes in {path}: {error}") from None
    if len(found) < 32:
        raise EnvironmentFaultError(f"{path} is not what it was: bring it back from a backup, or make all keys anew")
    return found


def _check(name: str, principal: Principal, lifetime_s: float | None) -> None:
    for what, value in (("name", name), ("tenant", principal.tenant), *(("group", one) for one in principal.groups)):
        if not _NAME.fullmatch(value):
            raise UsageError(f"{what} {value!r}: small letters, digits, '.', '_' and '-', at most 64, no '.' in front")
    if unknown := principal.scopes - set(SCOPES):
        raise UsageError(f"no scope {min(unknown)!r}; there are {', '.join(SCOPES)}")
    if not principal.scopes:
        raise UsageError("a key without a scope may do nothing; give it one")
    if lifetime_s is not None and not 0 < lifetime_s < float("inf"):
        raise UsageError(f"a key cannot live for {lifetime_s:g} seconds")
    if principal.streams is not None and principal.streams < 1:
        raise UsageError(f"a key with {principal.streams} requests at once could ask nothing: give it 1 or more")


def _key(row: sql.RowMapping) -> Key:
    return Key(
        row["name"], Principal.from_json(json.loads(row["principal"])), row["created_at"], row["expires_at"],
        row["revoked_at"], row["digest"], row["old_digest"], row["old_until"],
    )  # fmt: skip


def _said(error: SQLAlchemyError) -> str:
    """What a database said, without the statement and its values."""
    return str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
