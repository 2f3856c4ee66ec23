"""A gateway's end of the ledger: leases in memory, so that a request is reserved and settled without a hop.

One task of the event loop talks to the ledger: it carries what requests wait for, brings back what was used and what
is not needed, and hears which tenants have limits. For one event loop; not thread-safe.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from actors.ledger.amounts import (
    FREE,
    NOTHING,
    UNLIMITED,
    Amount,
    Ask,
    Grant,
    Message,
    Need,
    Refusal,
    Reply,
    Report,
    Returned,
    Standing,
    UsageRow,
    Used,
)
from actors.ledger.spool import Spool, left_behind
from cluster.core.errors import EnvironmentFaultError, PlinthError, PolicyRefusedError
from cluster.core.identity import Limits, Principal
from cluster.core.sections.ledger import LedgerSection
from cluster.core.telemetry import log_event

AGAIN_S = 0.1  # between two tries of a ledger that does not answer
LOOK_S = 10.0  # between two looks for what other processes left behind
NO_LIMITS = Limits()


class LedgerClient(Protocol):
    """Whoever takes messages to the ledger; EnvironmentFaultError where it does not answer."""

    async def exchange(self, message: Message) -> Reply:
        """See ``Ledger.exchange``."""
        ...

    async def usage(self, since: str, until: str, key_id: str, tenant: str) -> list[UsageRow]:
        """See ``usage_rows``."""
        ...


class RefusedError(PolicyRefusedError):
    """The budget is used up. ``refusal`` says which, and until when."""

    @property
    def refusal(self) -> Refusal:
        """Why."""
        found: Refusal = self.extras["refusal"]
        return found


@dataclass(frozen=True)
class Hold:
    """What one request has reserved; ``lease`` is empty where it has no limits."""

    key_id: str
    amount: Amount
    lease: str = ""
    standing: Standing = FREE


@dataclass
class _Waiting:
    need: Need
    granted: asyncio.Future[Hold]


@dataclass
class _Purse:
    """What is there of one key's budget, and who waits for more of it."""

    who: Principal
    lease: str = ""
    room: Amount = NOTHING
    used: Amount = NOTHING  # of this lease: twice as much is asked for with the next one
    ends: float = 0.0
    standing: Standing = FREE
    heard: float = 0.0
    waiting: list[_Waiting] = field(default_factory=list)


class Wallet:
    """Reserves and settles for the requests of one process.

    Args:
        spool: folder of the notes of all processes of this machine.
        clock: seconds that do not go back.
    """

    def __init__(
        self, client: LedgerClient, section: LedgerSection, spool: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._section, self._clock = client, section, clock
        self._folder, self._spool = spool, Spool(spool)
        self._names = (f"{self._spool.holder}-{number}" for number in itertools.count())
        self._messages = itertools.count()
        self._purses: dict[str, _Purse] = {}
        self._in_use: dict[str, int] = {}  # requests under way, by lease
        self._tenants: dict[str, Limits] = {}
        self._heard, self._looked = -math.inf, -math.inf
        self._number = 0
        self._rows: dict[tuple[str, ...], Used] = {}
        self._back: dict[str, Amount] = {}
        self._unsent: list[Report] = []
        self._listening: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None

    @property
    def holder(self) -> str:
        """By what name the ledger knows this process."""
        return self._spool.holder

    # -- requests -----------------------------------------------------------------------------------------------------
    async def reserve(self, who: Principal, need: Need) -> Hold:
        """Reserve what one request may use at most: out of what is here, else the ledger is asked.

        Raises:
            RefusedError: it is not there, or no more.
            EnvironmentFaultError: the ledger does not answer.
        """
        self.start()
        if self._clock() - self._heard > self._section.blind_s:
            await self._hear()
        if who.limits == NO_LIMITS and who.tenant not in self._tenants:
            return Hold(who.key_id, need.most)
        purse = self._purses.setdefault(who.key_id, _Purse(who))
        purse.who = who  # its limits may have changed
        if not purse.waiting and (hold := self._take(purse, need.most)) is not None:
            return hold
        waiting = _Waiting(need, asyncio.get_running_loop().create_future())
        purse.waiting.append(waiting)
        self._call()
        try:
            async with self._patience():
                return await asyncio.shield(waiting.granted)
        except TimeoutError:
            raise EnvironmentFaultError("the ledger does not answer") from None
        finally:
            if waiting in purse.waiting:
                purse.waiting.remove(waiting)
            if not waiting.granted.done():  # whoever it was for has left: what still comes goes back
                waiting.granted.add_done_callback(self._unwanted)

    async def usage(self, since: str, until: str, key_id: str, tenant: str) -> list[UsageRow]:
        """See ``usage_rows``; what this process did last may come to the books within ``report_s`` only.

        Raises:
            UsageError: a day is none.
            EnvironmentFaultError: the ledger does not answer.
        """
        try:
            async with self._patience():
                return await self._client.usage(since, until, key_id, tenant)
        except TimeoutError:
            raise EnvironmentFaultError("the ledger does not answer") from None

    def _unwanted(self, granted: asyncio.Future[Hold]) -> None:
        if not granted.cancelled() and granted.exception() is None:
            self.release(granted.result())

    def release(self, hold: Hold) -> None:
        """Give back what was reserved: nothing of it was used, and nothing is booked."""
        self._free(hold, NOTHING)

    def settle(self, hold: Hold, row: Used) -> None:
        """Book what a request used, and give back what it did not need."""
        self._spool.note(self._number, row)
        key = (row.day, row.key_id, row.tenant, row.tier)
        before = self._rows.get(key)
        self._rows[key] = row if before is None else replace(
            row, requests=before.requests + row.requests, prompt_tokens=before.prompt_tokens + row.prompt_tokens,
            completion_tokens=before.completion_tokens + row.completion_tokens, micro=before.micro + row.micro,
        )  # fmt: skip
        self._free(hold, row.amount)

    def _take(self, purse: _Purse, amount: Amount) -> Hold | None:
        if not purse.lease or self._clock() >= purse.ends or not purse.room.covers(amount):
            return None
        purse.room -= amount
        return self._held(purse, amount)

    def _held(self, purse: _Purse, amount: Amount) -> Hold:
        self._in_use[purse.lease] = self._in_use.get(purse.lease, 0) + 1
        return Hold(purse.who.key_id, amount, purse.lease, self._standing(purse))

    def _standing(self, purse: _Purse) -> Standing:
        """What the ledger said, and what is left here besides, as time goes by."""
        said, age = purse.standing, self._clock() - purse.heard
        return replace(
            said, requests_left=said.requests_left + purse.room.requests,
            tokens_left=said.tokens_left + purse.room.tokens,
            requests_reset_s=max(0.0, said.requests_reset_s - age), tokens_reset_s=max(0.0, said.tokens_reset_s - age),
        )  # fmt: skip

    def _free(self, hold: Hold, used: Amount) -> None:
        if not hold.lease:
            return
        used = used.at_most(hold.amount)
        self._in_use[hold.lease] -= 1
        purse = self._purses.get(hold.key_id)
        if purse is not None and purse.lease == hold.lease:
            purse.room += hold.amount - used
            purse.used += used
            self._give_back(hold.lease, used)
            return
        self._give_back(hold.lease, hold.amount)
        if not self._in_use[hold.lease]:
            del self._in_use[hold.lease]

    def _give_back(self, lease: str, amount: Amount) -> None:
        self._back[lease] = self._back.get(lease, NOTHING) + amount

    def _end(self, purse: _Purse) -> None:
        """Give back what is left of a key's lease; requests that use it go on."""
        if purse.lease:
            if not self._in_use.get(purse.lease):
                self._in_use.pop(purse.lease, None)
            self._give_back(purse.lease, purse.room)
            purse.lease, purse.room = "", NOTHING

    # -- the ledger ---------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to talk to the ledger, in the running loop; again does nothing."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._wake = asyncio.Event()
            self._listening = []
            for purse in self._purses.values():
                purse.waiting = []
            self._task = loop.create_task(self._keep(self._wake))

    async def stop(self) -> None:
        """Report what there is, give back all leases that are not in use, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for purse in self._purses.values():
            self._end(purse)
        try:
            await self._exchange()
        except PlinthError as error:
            log_event("ledger", "not_reported", error=error.message)
        self._spool.close()

    async def _hear(self) -> None:
        """Wait until the ledger was heard.

        Raises:
            EnvironmentFaultError: it does not answer.
        """
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listening.append(heard)
        self._call()
        try:
            async with self._patience():
                await heard
        except TimeoutError:
            raise EnvironmentFaultError("the ledger does not answer") from None

    def _patience(self) -> asyncio.Timeout:
        return asyncio.timeout(self._section.wait_s)

    def _call(self) -> None:
        if self._wake is not None:
            self._wake.set()

    async def _keep(self, wake: asyncio.Event) -> None:
        while True:
            wanted = self._listening or any(purse.waiting for purse in self._purses.values())
            if not wanted:
                try:
                    async with asyncio.timeout(self._section.report_s):
                        await wake.wait()
                except TimeoutError:
                    self._look_through()
            wake.clear()
            try:
                await self._exchange()
                await self._inherit()
            except PlinthError as error:
                log_event("ledger", "not_reached", error=error.message)
                await asyncio.sleep(AGAIN_S)

    def _look_through(self) -> None:
        """Give back leases that ended; drop what is known of keys that nobody uses."""
        now = self._clock()
        for key_id, purse in list(self._purses.items()):
            if purse.lease and now >= purse.ends:
                self._end(purse)
            if not purse.lease and not purse.waiting and now - purse.heard > self._section.blind_s:
                del self._purses[key_id]

    async def _exchange(self) -> None:
        waiting: list[tuple[_Purse, list[_Waiting]]] = []
        asks = []
        for purse in self._purses.values():
            if purse.waiting:
                more = purse.used + purse.used
                self._end(purse)
                needs, who = tuple(one.need for one in purse.waiting), purse.who
                asks.append(Ask(next(self._names), who.key_id, who.tenant, who.limits, needs, more))
                waiting.append((purse, purse.waiting))
                purse.waiting = []
        self._seal()
        # A lease of which something is still to be reported is not over, whoever uses it.
        alive = {*self._in_use, *self._back, *(purse.lease for purse in self._purses.values() if purse.lease)}
        message = Message(self.holder, next(self._messages), tuple(alive), tuple(self._unsent), tuple(asks))
        listening, self._listening, asked = self._listening, [], self._clock()
        try:
            async with self._patience():
                reply = await self._client.exchange(message)
        except BaseException as error:
            for purse, ones in waiting:  # who waited waits on; what was lent unheard comes back with the next message
                purse.waiting = [*(one for one in ones if not one.granted.done()), *purse.waiting]
            self._listening = [heard for heard in (*listening, *self._listening) if not heard.done()]
            if isinstance(error, TimeoutError):
                raise EnvironmentFaultError("the ledger does not answer") from None
            raise
        for report in message.reports:
            self._spool.forget(report.number)
        self._unsent = []
        self._tenants, self._heard = reply.tenants, self._clock()
        for (purse, ones), grant in zip(waiting, reply.grants, strict=True):
            self._share_out(purse, ones, grant, asked)
        for heard in listening:
            if not heard.done():
                heard.set_result(None)

    def _share_out(self, purse: _Purse, waiting: Sequence[_Waiting], grant: Grant, asked: float) -> None:
        purse.lease, purse.room, purse.used = grant.lease, grant.rest, NOTHING
        purse.ends, purse.standing, purse.heard = asked + self._section.lease_s, grant.standing, self._clock()
        for one, got in zip(waiting, grant.granted, strict=True):
            if isinstance(got, Refusal):
                if not one.granted.done():
                    said = {"refusal": got, "standing": self._standing(purse)}
                    one.granted.set_exception(RefusedError(f"no budget: {got.limit}", **said))
                    one.granted.exception()  # who waited may have left: then nobody asks for it
                continue
            hold = self._held(purse, got)
            if one.granted.done():
                self.release(hold)
            else:
                one.granted.set_result(hold)
        if not any(isinstance(got, Amount) for got in grant.granted):
            purse.lease = ""  # nothing was lent under this name

    def _seal(self) -> None:
        """Make a report of what happened since the last one; while one waits to be sent, a second one at most."""
        if (self._rows or self._back) and len(self._unsent) < 2:
            back = tuple(Returned(lease, amount) for lease, amount in self._back.items() if amount)
            self._unsent.append(Report(self._number, tuple(self._rows.values()), back))
            self._number += 1
            self._rows, self._back = {}, {}

    async def _inherit(self) -> None:
        """Report for processes of this machine that are gone; what they held comes back with it."""
        if self._clock() - self._looked < LOOK_S:
            return
        self._looked = self._clock()
        for left in left_behind(self._folder):
            await self._client.exchange(Message(left.holder, UNLIMITED, reports=left.reports))
            left.remove()
            log_event("ledger", "reported_for", holder=left.holder, reports=len(left.reports))
