"""Feedback on answers: a key says something of its own tenant's answers, and of no other one.

Whose an answer was is noted when it ends, without its text. What people write passes the corpus's redactor before it is
kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from actors.feedback.book import TEXTS, Feedback, FeedbackBook, Given, MadeOf, digest_of_answer
from cluster.core.errors import EnvironmentFaultError
from cluster.core.sections.feedback import FeedbackSection
from serve_apps.errors import ApiError, UnavailableError, bad_request
from serve_apps.gateway.exchange import Ask, Done
from serve_apps.gateway.later import Later
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.guards.characters import visible

TIDY_S = 3600.0


class FeedbackDesk:
    """Notes answers, and takes what is said of them.

    Args:
        pepper: the key of the hashes of answers.
        mask: takes personal data and secrets out of a text.
    """

    def __init__(self, book: FeedbackBook, section: FeedbackSection, pepper: bytes, mask: Callable[[str], str]) -> None:
        self._book, self._section, self._pepper, self._mask = book, section, pepper, mask
        self._later: Later[Given] = Later(book.note, "whose an answer was")
        self._tidied = float("-inf")

    def answered(self, ask: Ask, done: Done, record: RequestRecord) -> None:
        """Note whose an answer is, once it has ended; nothing of those who want nothing kept."""
        if not ask.keep:
            return
        of = MadeOf(
            record.tier or "", record.model_version or "", record.collection, record.index_version or "",
            record.labelled, tuple(sorted(set(record.documents))),
        )  # fmt: skip
        digest = digest_of_answer(self._pepper, _question(ask), "".join(record.said))
        self._later.put(Given(done.plinth["answer_id"], record.tenant, digest, of))

    async def take(self, said: Feedback, record: RequestRecord) -> dict[str, Any]:
        """Keep what a key says of an answer of its tenant.

        Raises:
            ApiError: 404, it has no such answer; 400, question and answer are not what was asked and answered.
            UnavailableError: the book cannot be read or written.
        """
        await self._later.settled()
        try:
            given = await asyncio.to_thread(self._book.find, said.answer_id, record.tenant)
            if given is None:
                raise _not_found(self._section.answer_days)
            if said.question and digest_of_answer(self._pepper, said.question, said.answer) != given.digest:
                message = "question and answer are not those of this answer: send them as they were, or leave both out"
                raise bad_request(message, "answer")
            await asyncio.to_thread(self._keep, said, given, record)
        except EnvironmentFaultError as error:
            raise UnavailableError("feedback cannot be kept") from error
        return {"object": "feedback", "answer_id": said.answer_id, "rating": said.rating, "consent": said.consent}

    def _keep(self, said: Feedback, given: Given, record: RequestRecord) -> None:
        kept = TEXTS if said.consent else TEXTS[:2]
        texts: dict[str, Any] = {
            name: self._mask(visible(getattr(said, name))) if name in kept else "" for name in TEXTS
        }
        key_id, tenant = record.principal.key_id, record.tenant
        self._book.say(replace(said, **texts, key_id=key_id, tenant=tenant, made_of=given.made_of))

    async def tidy(self) -> None:
        """Remove what is too old; to be called every few seconds."""
        if time.monotonic() - self._tidied < TIDY_S:
            return
        self._tidied = time.monotonic()
        try:
            await asyncio.to_thread(self._book.tidy, self._section.answer_days, self._section.keep_days)
        except EnvironmentFaultError:
            self._tidied = float("-inf")  # the next one tries again


def _question(ask: Ask) -> str:
    """What was asked last."""
    return next((text for role, text in reversed(ask.turns) if role == "user"), "")


def _not_found(days: int) -> ApiError:
    message = (
        f"this key's tenant has no such answer: its id is plinth.answer_id, feedback is taken for {days} days, and not "
        'of answers that were asked for with "store": false'
    )
    return ApiError(message, status=404, param="answer_id", code="answer_not_found")
