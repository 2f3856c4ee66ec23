"""Who may come in: every request is recognised here before a byte of its body is read. Nobody is let in by default.

A gateway holds the keys as they were at its last look at the book (``actors/ledger/key_book.py``), which is never older
than ``trust.key_check_s`` when somebody is let in: so a revoked key ends within that time on every replica. Where the
book cannot be read, nobody is let in (503) and nobody is told that his key is wrong.

An address that was refused too often waits (429): nothing is hashed or looked up for it, and no line written. A key
that is known by its id is looked at all the same, so that others at the same address go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from starlette.datastructures import Headers

from actors.ledger.keyring import Keyring, Session
from cluster.core.errors import EnvironmentFaultError
from cluster.core.identity import LOCAL, NOBODY, Principal
from cluster.core.sections.trust import TrustSection
from cluster.haproxy_edge import CLIENT, client_of
from serve_apps.errors import ApiError, UnavailableError
from serve_apps.gateway.refusals import Refusals, network
from serve_apps.gateway.streams import Streams

T = TypeVar("T")

READ_S = 2.0  # a look at the book that takes longer counts as failed
AGAIN_S = 0.2  # who tries keys makes a gateway look that often at most
LONGEST_KEY = 200
HOW = "send it as `Authorization: Bearer KEY`; `plinth keys create` makes one"
NOT_KNOWN = "this is no key here, or it was revoked or has expired"
NO_KEY = f"{NOT_KNOWN}: {HOW}"
NEEDED = f"this needs a key: {HOW}"
WAIT = "too_many_refused"


class Book(Protocol):
    """What a doorkeeper asks of a book of keys. Every call may block; EnvironmentFaultError: it cannot be read."""

    def keyring(self, known: int = -1) -> Keyring | None:
        """The keys as they are; None where they are still those of the version ``known``."""
        ...

    def redeem(self, code: str) -> str | None:
        """The id of the key that a one-time code signs in as."""
        ...

    def end(self, session: Session) -> None:
        """Sign a session out."""
        ...


class Doorkeeper:
    """Recognises who asks.

    Args:
        book: of the keys; None: keys are switched off and everybody is ``LOCAL``.
        port: of the service; part of the cookie's name, since browsers send the cookies of a host to all its ports.
        clock: seconds since the epoch.
        seal: by which a request says that our edge wrote its client's address on it; empty: none is believed.
    """

    def __init__(
        self,
        book: Book | None,
        section: TrustSection,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        seal: str = "",
    ) -> None:
        self._book, self._section, self._clock, self._seal = book, section, clock, seal
        self._refusals = Refusals(section.refusals_per_minute, clock)
        self._streams = Streams(section.streams_per_key)
        self._ring: Keyring | None = None
        self._looked = float("-inf")
        self._looking = asyncio.Lock()
        self._redeeming = asyncio.Lock()  # anybody may try codes: they get one thread, not those that keys are read in
        self.cookie = f"plinth_session_{port}"

    @property
    def open(self) -> bool:
        """Whether everybody is let in."""
        return self._book is None

    def counted(self, principal: Principal) -> AbstractContextManager[ApiError | None]:
        """One more request of a key, for the length of a ``with`` block; why it may not have it now, or None. Nobody is
        counted where keys are switched off, nor who has none."""
        return nullcontext() if self.open or principal is NOBODY else self._streams.of(principal)

    def address(self, headers: Headers) -> str:
        """Where a request comes from, as far as our edge says so."""
        return network(client_of(headers.getlist(CLIENT), self._seal))

    async def recognise(self, headers: Headers, browser: bool = True, nobody: bool = False) -> Principal:
        """Whom a request comes from.

        Args:
            browser: a session counts; false for pages of other origins, which send what the browser has.
            nobody: who brings no key and no session is ``NOBODY``, and no error: at probes, and at pages, where people
                are shown how to sign in.

        Raises:
            ApiError: 401, it brings nothing, or what it brings is no key here, or no longer; 429, once its address was
                refused too often.
            UnavailableError: the book cannot be read.
        """
        if self._book is None:
            return LOCAL
        given, session = headers.getlist("authorization"), self._session(headers) if browser else ""
        if given:
            scheme, _, text = given[0].partition(" ")
            text = text.strip() if len(given) == 1 and scheme.lower() == "bearer" else ""
            found = await self._known(self._book, text, address := self.address(headers))
            if found is None:
                raise self._refused(address, NO_KEY, text)
            return found
        if session:
            ring, now = await self._fresh(self._book), self._clock()
            if (signed_in := ring.signed_in(session, now)) is not None:
                return signed_in
        if nobody:
            return NOBODY
        raise self._refused(self.address(headers), NEEDED, why="session_ended" if session else "no_key")

    async def sign_in(self, code: str = "", key: str = "", address: str = "") -> str:
        """The value of the session cookie for a one-time code, or for a key.

        Raises:
            ApiError: 401, it is none, was used, or came too late; 429 as ``recognise``.
            UnavailableError: the book cannot be read.
        """
        if self._book is None:
            raise ApiError("keys are switched off here: there is nothing to sign in to", status=404, code="not_found")
        if key:
            found = await self._known(self._book, key, address)
            key_id = found and found.key_id
        else:
            address = f"codes of {address}"  # a tab that asks on without a session keeps nobody from signing in
            if self._refusals.wait_s(address):
                raise self._refused(address)
            async with self._redeeming:
                key_id = await self._ask(self._book.redeem, code)
        # The key of a link may be younger than the last look, and the link is used up: so it is looked at anew.
        ring = await self._fresh(self._book, 0.0 if key_id and not key else None)
        if not key_id or key_id not in ring.keys or ring.keys[key_id].state(self._clock()) != "active":
            message = NOT_KNOWN if key else "this link was used, or is too old: `plinth open` prints a new one"
            raise self._refused(address, message, key, "" if key else "no_code")
        return ring.session(key_id, self._clock() + self.session_s)

    async def sign_out(self, headers: Headers) -> None:
        """End the session of a browser, on every gateway within ``trust.key_check_s``, whoever has its cookie.

        Raises:
            UnavailableError: the book cannot be read or written.
        """
        if self._book is None or not (session := self._session(headers)):
            return
        ring = await self._fresh(self._book)
        if ring.signed_in(session, self._clock()) is not None and (found := ring.session_of(session)) is not None:
            await self._ask(self._book.end, found)
            self._looked = float("-inf")  # here it ends at once

    @property
    def session_s(self) -> float:
        """How long a browser stays signed in (s)."""
        return self._section.session_days * 86400

    def _session(self, headers: Headers) -> str:
        """The session cookie's value; empty where there is none, or more than one."""
        found = [
            value
            for header in headers.getlist("cookie")
            for part in header.split(";")
            for name, _, value in [part.strip().partition("=")]
            if name == self.cookie
        ]
        return found[0] if len(found) == 1 and len(found[0]) <= LONGEST_KEY else ""

    async def _known(self, book: Book, text: str, address: str) -> Principal | None:
        """Whose key this is. One that nobody knows may have been made a moment ago: the book is looked at again, as
        soon as that may be, but not for an address that waits."""
        ring = await self._fresh(book)
        if self._refusals.wait_s(address):
            return ring.recognise(text, self._clock()) if ring.names(text) else None
        if (found := ring.recognise(text, self._clock())) is not None:
            return found
        await asyncio.sleep(min(AGAIN_S, max(0.0, self._looked + AGAIN_S - self._clock())))
        return (await self._fresh(book, AGAIN_S)).recognise(text, self._clock())

    def _refused(self, address: str, message: str = "", text: str = "", why: str = "") -> ApiError:
        """The refusal, counted; another one where the address has to wait.

        Args:
            text: the key that was given, from which follows ``why`` (one of ``request_log.AUTH_FAILURES``) where it is
                not said.
        """
        if wait := self._refusals.wait_s(address):
            message = (
                f"too many requests from this address were refused: a key that works goes on, others wait {wait} s"
            )
            return ApiError(message, status=429, kind="rate_limit_error", code=WAIT,
                            headers={"retry-after": str(wait), "x-should-retry": "false"})  # fmt: skip
        self._refusals.note(address)
        state = self._ring.state_of(text, self._clock()) if self._ring is not None and not why else "unknown"
        return refused(message, why or f"{state}_key")

    async def _fresh(self, book: Book, within_s: float | None = None) -> Keyring:
        if (ring := self._held(within_s)) is not None:
            return ring
        async with self._looking:
            if (ring := self._held(within_s)) is not None:
                return ring
            began, known = self._clock(), self._ring
            found = await self._ask(book.keyring, -1 if known is None else known.version)
            self._ring, self._looked = found or known, began
            if self._ring is None:
                raise UnavailableError("the book of keys says nothing")
            return self._ring

    def _held(self, within_s: float | None) -> Keyring | None:
        """The keys of the last look, where that is not too old (nor in the future: clocks are set back)."""
        within_s = self._section.key_check_s if within_s is None else within_s
        return self._ring if 0 <= self._clock() - self._looked < within_s else None

    async def _ask(self, ask: Callable[[Any], T], value: object) -> T:
        try:
            async with asyncio.timeout(READ_S):
                return await asyncio.to_thread(ask, value)
        except (EnvironmentFaultError, TimeoutError) as error:
            raise UnavailableError("the book of keys cannot be read") from error


def refused(message: str, why: str = "no_key") -> ApiError:
    """401, in OpenAI's words; ``why`` is for the metrics."""
    headers = {"www-authenticate": 'Bearer realm="plinth"'}
    return ApiError(message, status=401, code="invalid_api_key", headers=headers, why=why)


def admitted(principal: Principal, scope: str | None) -> ApiError | None:
    """Why somebody may not use a route, or None.

    Args:
        scope: what the route asks for; empty: any key; None: nothing.
    """
    if scope is None:
        return None
    if principal is NOBODY:
        return refused(NEEDED)
    if scope and not principal.may(scope):
        message = (
            f"the key {principal.key_id} has no scope {scope!r}; ask whoever keeps the keys (`plinth keys create`)"
        )
        return ApiError(message, status=403, kind="permission", code="scope_missing")
    return None
