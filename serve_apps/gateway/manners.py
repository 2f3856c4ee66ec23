"""Replies to thanks, greetings and "what can you do": checked like anything else, but without search and tier."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from cluster.core.records import Verdict
from serve_apps.errors import UnavailableError
from serve_apps.gateway.exchange import Ask, Done, Event, TextDelta
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.stop_sequences import Shaper
from serve_apps.gateway.token_counts import TokenCounter
from serve_apps.guards.characters import visible
from serve_apps.guards.protocol import OUT
from serve_apps.guards.window import Placeholders
from train_jobs.answering.courtesies import HELP, REPLIES, courtesy_of, help_text

TOPICS = 8
COURTESY = "courtesy"


class Manners:
    """Answers what is no question.

    Args:
        examples: checked questions to start with (``Lookups.examples``).
        tokens: counts usage and cuts at ``max_tokens``.
    """

    def __init__(
        self,
        hops: Hops,
        examples: Callable[[RequestRecord], Awaitable[dict[str, Any]]],
        tokens: TokenCounter,
    ) -> None:
        self._hops, self._examples, self._tokens = hops, examples, tokens

    def kind(self, ask: Ask) -> str:
        """Which courtesy the last message is; empty where it wants an answer, or a model is to continue a text."""
        return "" if ask.plain else courtesy_of(next(text for role, text in reversed(ask.turns) if role == "user"))

    async def reply(self, kind: str, ask: Ask, record: RequestRecord) -> AsyncGenerator[Event, None]:
        """The reply, then one Done whose ``plinth.reason`` is ``courtesy``.

        Raises:
            ApiError: the guard refused the input.
            UnavailableError: the guard is down; for help, there is no index.
        """
        await self._hops.guard_in([text for _, text in ask.turns], record)
        text, version = REPLIES.get(kind, ""), ""
        if kind == HELP:
            record.labelled = True  # nobody says which documents the topics are of
            topics = [visible(topic) for topic in await self._hops.topics(TOPICS, record)]
            checks = await self._hops.guard_out(topics, record) if topics else []
            topics = [topic for topic, check in zip(topics, checks, strict=True) if not check.blocked]
            found = await self._examples(record)
            version = str(found["plinth"]["index_version"])
            text = help_text(topics, [row["question"] for row in found["data"]])
        check = (await self._hops.guard_out([text], record))[0]
        if check.blocked:
            raise UnavailableError("the reply did not pass the output guard")
        shaper = Shaper(self._tokens, ask.sampling.max_tokens, ask.sampling.stops)
        sent = shaper.feed(Placeholders().redact(text, check.spans), final=True)
        if sent:
            yield TextDelta(sent)
        yield self._done(kind, ask, record, shaper, version)

    def _done(self, kind: str, ask: Ask, record: RequestRecord, shaper: Shaper, version: str) -> Done:
        record.tier, record.routed, record.grounded, record.reason = COURTESY, COURTESY, False, COURTESY
        record.prompt_tokens = sum(self._tokens.count(text) for _, text in ask.turns)
        record.completion_tokens = self._tokens.count(shaper.sent)
        if not any(verdict.stage == OUT for verdict in record.verdicts):
            record.judged((Verdict(OUT, "allow"),))
        plinth = {
            "answer_id": record.answer_id,
            "tier": COURTESY,
            "model_version": "",
            "route": {"reason": COURTESY, "considered": {}},
            "citations": [],
            "grounded": False,
            "reason": COURTESY,
            "form": kind,
            "searched_for": "",
            "closest": [],
            "not_found": [],
            "confidence": 0.0,
            "collection": record.collection,
            "index_version": version,
            "index_as_of": "",
            "knowledge_cutoff": "",
            "degraded": False,
            "external": False,
            "reader": "spared",
            "dropped_passages": 0,
            "cache": record.cache,
            "verdicts": [verdict.to_dict() for verdict in record.verdicts],
            "timings_ms": record.timings(),
        }
        return Done(shaper.finish or "stop", record.prompt_tokens, record.completion_tokens, plinth)
