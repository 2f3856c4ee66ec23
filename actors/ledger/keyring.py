"""Recognising who comes, from the keys as they stood at one look at the book: no database, no waiting."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.core.errors import BadInputError
from cluster.core.identity import Principal

PREFIX = "plinth"
LONGEST = 200  # characters of a key that are looked at
_NOBODYS = "0" * 64


@dataclass(frozen=True)
class Key:
    """One key as it stands in the book; times in seconds since the epoch. The digests are no secrets, but nobody's
    business."""

    name: str
    principal: Principal
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    digest: str = field(default="", repr=False)
    old_digest: str = field(default="", repr=False)
    old_until: float = 0.0

    @property
    def key_id(self) -> str:
        """Its public name."""
        return self.principal.key_id

    def state(self, now: float) -> str:
        """``active``, ``revoked`` or ``expired``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def to_json(self, now: float) -> dict[str, Any]:
        """What may be shown of it."""
        return {
            "name": self.name, **self.principal.to_json(), "state": self.state(now), "created_at": self.created_at,
            "expires_at": self.expires_at, "revoked_at": self.revoked_at,
        }  # fmt: skip


@dataclass(frozen=True)
class Session:
    """A browser that was signed in as a key; ``name`` tells it from the key's others, ``until`` is when it ends."""

    key_id: str
    name: str
    until: float


@dataclass(frozen=True)
class Keyring:
    """The keys as they were at one look at the book: enough to recognise whoever comes, without asking anybody.

    Attributes:
        version: of the book.
        keys: by id, revoked and expired ones included.
        pepper: the key of the hashes.
        ended: sessions that were signed out before their time, by key and name.
    """

    version: int
    keys: Mapping[str, Key]
    pepper: bytes = field(repr=False)
    ended: frozenset[tuple[str, str]] = frozenset()

    def recognise(self, text: str, now: float) -> Principal | None:
        """Whose key this is; None: nobody's, or it is revoked or expired. Takes the same work for every text."""
        key = self._fitting(text, now)
        return key.principal if key is not None and key.state(now) == "active" else None

    def state_of(self, text: str, now: float) -> str:
        """What a key is: ``active``, ``revoked``, ``expired``; ``unknown`` where the secret is wrong."""
        key = self._fitting(text, now)
        return "unknown" if key is None else key.state(now)

    def _fitting(self, text: str, now: float) -> Key | None:
        """The key that has this secret, or had it until a moment ago."""
        key_id, secret = _parts(text)
        key = self.keys.get(key_id)
        digest = digest_of(self.pepper, secret)
        wanted, before = (key.digest, key.old_digest) if key else (_NOBODYS, _NOBODYS)
        fits = hmac.compare_digest(digest, wanted)
        fitted = hmac.compare_digest(digest, before or _NOBODYS) and key is not None and now < key.old_until
        return key if fits or fitted else None

    def names(self, text: str) -> bool:
        """Whether a text begins as a key here does; costs no hash, and says no more than the public id does."""
        return _parts(text)[0] in self.keys

    def session(self, key_id: str, until: float) -> str:
        """What a browser keeps to be recognised by: no key, and worth nothing once that one is revoked or rotated.

        Raises:
            BadInputError: there is no such key.
        """
        if (key := self.keys.get(key_id)) is None:
            raise BadInputError(f"there is no key {key_id!r}")
        body = f"{key_id}.{until:.0f}.{secrets.token_hex(8)}"
        return f"{body}.{self._seal(body, key)}"

    def signed_in(self, session: str, now: float) -> Principal | None:
        """Whose session this is; None: nobody's, or it has ended."""
        found = self.session_of(session)
        if found is None or (found.key_id, found.name) in self.ended:
            return None
        key = self.keys[found.key_id]
        return key.principal if key.state(now) == "active" and now < found.until else None

    def session_of(self, session: str) -> Session | None:
        """What a browser brings; None where it is nothing that came from here."""
        body, _, seal = session.rpartition(".")
        key_id, _, rest = body.partition(".")
        until, _, name = rest.partition(".")
        key = self.keys.get(key_id)
        if key is None or not until.isdigit() or not hmac.compare_digest(seal.encode(), self._seal(body, key).encode()):
            return None
        return Session(key_id, name, int(until[:12]))

    def _seal(self, body: str, key: Key) -> str:
        return hmac.new(self.pepper, f"session.{body}.{key.digest}".encode(), hashlib.sha256).hexdigest()


def _parts(text: str) -> tuple[str, str]:
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and len(text) <= LONGEST else ("", text[:LONGEST])


def digest_of(pepper: bytes, secret: str) -> str:
    """What is kept of a secret: HMAC-SHA256, in hexadecimal digits."""
    return hmac.new(pepper, secret.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()
