"""The review queue as a service has it: what a policy sends there, and administrators who look at it and decide.

A request does not wait for the queue, and goes on where that cannot be written: it was flagged, no more. Looking and
deciding is written into the audit log first; without that neither is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from actors.review.decisions import Decision, State
from actors.review.queue import MOST_CHARS, Item, ReviewQueue
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.records import Verdict
from cluster.core.sections.feedback import ReviewSection
from cluster.core.telemetry import log_event
from serve_apps.errors import ApiError, UnavailableError
from serve_apps.gateway.audit_trail import AuditTrail
from serve_apps.gateway.later import Later
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.guards.characters import visible

TIDY_S = 3600.0
MOST_WAITING = 1000  # texts


class ReviewDesk:
    """Queues texts, shows them, takes decisions.

    Args:
        mask: takes personal data and secrets out of a text.
        trail: what is looked at and decided is told here; None: no audit log is kept.
    """

    def __init__(
        self, queue: ReviewQueue, section: ReviewSection, mask: Callable[[str], str], trail: AuditTrail | None = None
    ) -> None:
        self._queue, self._section, self._mask, self._trail = queue, section, mask, trail
        self._later: Later[Item] = Later(self._put, "what is to be reviewed", most=MOST_WAITING)
        self._tidied = float("-inf")

    def note(self, verdicts: Sequence[Verdict], text: str, collection: str, tenant: str) -> None:
        """Queue a text for each of its verdicts that says so."""
        text = text[: 2 * MOST_CHARS]  # it is cut once it was masked: half an address is not found
        for one in verdicts:
            if one.action == "review":
                self._later.put(
                    Item(tenant, collection, one.guard, one.rule, one.version, one.policy, one.detail, one.score, text)
                )

    async def page(self, record: RequestRecord, state: State, after: int, most: int) -> dict[str, Any]:
        """A page of the queue; ``last`` is where the next one begins.

        Raises:
            UnavailableError: the queue cannot be read, or the reading not be written down.
        """
        await self._later.settled()
        await self._tell("review_read", record, state=state, after=after)
        found = await self._asked(self._queue.page, state, after, most + 1)
        shown = found[:most]
        return {
            "object": "list", "data": [item.to_json() for item in shown], "has_more": len(found) > most,
            "last": shown[-1].number if shown else after,
        }  # fmt: skip

    async def decide(self, record: RequestRecord, item: str, decision: Decision, note: str) -> dict[str, Any]:
        """Decide about an item.

        Raises:
            ApiError: 404, there is none.
            UnavailableError: the queue does not answer, or the decision cannot be written down.
        """
        found = await self._asked(self._queue.find, item)
        await self._tell("review_decided", record, found.tenant, item=found.id, rule=found.rule, decision=decision)
        by = f"key {record.principal.key_id}"
        decided = await self._asked(self._queue.decide, item, decision, by, self._mask(visible(note)))
        shown: dict[str, Any] = decided.to_json()
        return shown

    async def tidy(self) -> None:
        """Remove what is too old; to be called every few seconds."""
        if time.monotonic() - self._tidied < TIDY_S:
            return
        self._tidied = time.monotonic()
        try:
            await asyncio.to_thread(self._queue.tidy, self._section.keep_days)
        except EnvironmentFaultError:
            self._tidied = float("-inf")  # the next one tries again

    def _put(self, items: Sequence[Item]) -> None:
        masked = [item.masked(lambda text: self._mask(visible(text))) for item in items]
        if left_out := self._queue.put(masked):
            log_event("gateway", "review_queue_full", left_out=left_out)

    async def _tell(self, action: str, record: RequestRecord, tenant: str = "", **details: Any) -> None:
        if self._trail is not None:
            await self._trail.confirm(action, record, tenant, **details)

    async def _asked(self, ask: Callable[..., Any], *args: Any) -> Any:
        try:
            return await asyncio.to_thread(ask, *args)
        except BadInputError as error:
            raise ApiError(error.message, status=404, param="id", code="not_found") from None
        except EnvironmentFaultError as error:
            raise UnavailableError("the review queue is not available") from error
