"""What the audit log hears of requests: that one begins, where that is required, how it ended, and samples of answers.

Of a request no text is written down but for samples, which pass the corpus's redactor first; names that clients make up
(model, collection) pass it too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import lru_cache
from typing import Any

from actors.audit.client import AuditClient
from actors.audit.entries import Entry
from actors.audit.reading import Wanted
from cluster.core.errors import EnvironmentFaultError, PlinthError
from cluster.core.identity import Principal
from cluster.core.sections.audit import AuditSection
from cluster.core.storage import utc_now
from serve_apps.errors import UnavailableError
from serve_apps.gateway.exchange import Ask, Done, Event, TextDelta
from serve_apps.gateway.protocols import Recorder
from serve_apps.gateway.request_log import OFF, RequestRecord

MAX_NAME_CHARS, MOST_SHOWN = 100, 100


class AuditTrail:
    """Tells the audit log.

    Args:
        mask: takes personal data and secrets out of a text.
        draw: a number in [0, 1): a request is sampled where it is below ``section.sample``.
        show: the newest records that are wanted, at most so many, for whoever reads them.
    """

    def __init__(
        self,
        section: AuditSection,
        client: AuditClient,
        mask: Callable[[str], str],
        draw: Callable[[], float] = random.random,
        show: Callable[[Wanted, int, str], Awaitable[list[dict[str, Any]]]] | None = None,
    ) -> None:
        self._show = show
        self._section, self._client, self._mask, self._draw = section, client, mask, draw
        self._name = lru_cache(maxsize=256)(lambda text: mask(text)[:MAX_NAME_CHARS])
        self._samples: set[asyncio.Task[None]] = set()

    def begin(self, record: RequestRecord) -> None:
        """Where the log is required: the answer begins only once this request is in it (``record.admitted``)."""
        if self._section.required:
            record.admission = asyncio.get_running_loop().create_task(self._admit(record))
            record.admission.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _admit(self, record: RequestRecord) -> None:
        entry = Entry.of(
            "begun", record.tenant, request_id=record.request_id, key_id=record.principal.key_id, route=record.route
        )
        try:
            await self._client.confirm(entry)
        except EnvironmentFaultError as error:
            raise UnavailableError("the audit log cannot be written, and nothing is answered without it") from error

    def ended(self, record: RequestRecord) -> None:
        """Write down how a request ended (``request_log.Journal.also``)."""
        self._client.offer(
            Entry.of(
                "request",
                record.tenant if record.principal.key_id else "",  # who was not recognised is nobody's
                request_id=record.request_id,
                ended=utc_now(),
                key_id=record.principal.key_id,
                method=record.method,
                route=record.route,
                status=record.status,
                code=record.code,
                stream=record.stream,
                model=self._name(record.model) if record.model else None,
                tier=record.tier,
                routed=record.routed,
                model_version=record.model_version,
                index_version=record.index_version,
                collection=self._name(record.collection) if record.collection else None,
                grounded=record.grounded,
                reason=record.reason,
                degraded=record.degraded or None,
                cache=None if record.cache == OFF else record.cache,
                verdicts=[f"{v.stage}:{v.action}:{v.rule}" for v in record.verdicts],
                prompt_tokens=record.prompt_tokens,
                completion_tokens=record.completion_tokens,
                ms=round(record.elapsed_ms, 1),
            )
        )

    def event(self, action: str, tenant: str, **details: Any) -> None:
        """Write down what this gateway noticed, among what administrators do."""
        self._client.offer(Entry.of("event", tenant, action=action, by="gateway", **details))

    async def sampled(
        self, events: AsyncGenerator[Event, None], ask: Ask, record: RequestRecord
    ) -> AsyncGenerator[Event, None]:
        """The events as they come; of a share of the answers, question and text are written down at their end."""
        wanted = ask.keep and self._draw() < self._section.sample
        texts: list[str] = []
        async with aclosing(events):
            async for event in events:
                if wanted and isinstance(event, TextDelta):
                    texts.append(event.text)
                elif wanted and isinstance(event, Done):
                    task = asyncio.get_running_loop().create_task(self._keep(ask, "".join(texts), record))
                    self._samples.add(task)  # else nobody holds it
                    task.add_done_callback(self._samples.discard)
                yield event

    async def _keep(self, ask: Ask, answer: str, record: RequestRecord) -> None:
        said: dict[str, Any] = {
            "request_id": record.request_id,
            "key_id": record.principal.key_id,
            "model_version": record.model_version,
            "index_version": record.index_version,
            "documents": sorted(set(record.documents)),
        }
        self._client.offer(await asyncio.to_thread(self._sample, record.tenant, ask, answer, said))

    def _sample(self, tenant: str, ask: Ask, answer: str, said: dict[str, Any]) -> Entry:
        turns = [{"role": role, "text": self._mask(text)} for role, text in ask.turns]
        return Entry.of("sample", tenant, single=True, turns=turns, answer=self._mask(answer), **said)

    async def read(self, principal: Principal, request_id: str = "") -> list[dict[str, Any]]:
        """The newest records of the reader's tenant, or those of one request; who keeps keys (``admin``) sees all.

        Raises:
            UnavailableError: the log cannot be read, or the reading not be written down.
        """
        wanted = Wanted("" if principal.may("admin") else principal.tenant, request=request_id)
        try:
            return [] if self._show is None else await self._show(wanted, MOST_SHOWN, f"key {principal.key_id}")
        except PlinthError as error:
            raise UnavailableError("the audit log cannot be read") from error

    async def confirm(self, action: str, record: RequestRecord, tenant: str = "", **details: Any) -> None:
        """Write down what an administrator is about to do, and return when that is safe. ``tenant``: whom it concerns.

        Raises:
            UnavailableError: it is not.
        """
        by, request = f"key {record.principal.key_id}", record.request_id
        try:
            await self._client.confirm(Entry.of("event", tenant, action=action, by=by, request_id=request, **details))
        except EnvironmentFaultError as error:
            raise UnavailableError("the audit log cannot be written, and nothing of this is done without it") from error

    async def tidy(self, recorder: Recorder) -> None:
        """Report how the log is; to be called every few seconds."""
        recorder.record("plinth_audit_waiting", self._client.waiting, {})
        if said := self._client.said:
            recorder.record("plinth_audit_records", said["last"], {})
            recorder.record("plinth_audit_damaged", float(bool(said["damaged"])), {})
        await self._client.look()


def masked(redact: Callable[[str], tuple[str, Any]]) -> Callable[[str], str]:
    """A mask out of ``data_jobs.pii.redact``."""
    return lambda text: redact(text)[0]
