"""The table of contents of a request: ``Ask -> AnswerPlan -> events``, one line a stage, every collaborator handed in.

What each stage learnt is noted in the request's record, which ``settle`` closes in one ``finally`` of the outermost
middleware, whatever broke. HTTP, OpenAI's shapes and deadlines are openai_http's business.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from actors.feedback.book import Feedback
from cluster.core.identity import Principal
from cluster.core.records import Answer
from cluster.core.sections.serve import ServeSection
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import ApiError
from serve_apps.gateway.admission import Admission
from serve_apps.gateway.alike import AlikeQuestions
from serve_apps.gateway.audit_trail import AuditTrail
from serve_apps.gateway.budget import FEEDBACK, Budget
from serve_apps.gateway.cache import AnswerCache
from serve_apps.gateway.cache_key import CacheKey, Versions
from serve_apps.gateway.collections import KnownCollections
from serve_apps.gateway.exchange import Ask, Done, Event
from serve_apps.gateway.feedback import FeedbackDesk
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.lookups import Lookups
from serve_apps.gateway.manners import Manners
from serve_apps.gateway.planning import Planner
from serve_apps.gateway.protocols import GuardClient, Recorder, RetrieverClient, TierClient
from serve_apps.gateway.recall import Recall
from serve_apps.gateway.request_log import Journal, RequestRecord
from serve_apps.gateway.reviewing import ReviewDesk
from serve_apps.gateway.rights import as_seen, may_name
from serve_apps.gateway.speaking import Speaker
from serve_apps.gateway.tiers import Tiers
from serve_apps.gateway.token_counts import RegexTokenCounter, TokenCounter
from serve_apps.gateway.turns import Turns
from serve_apps.guards.policy import Policies
from serve_apps.routing.learned import LearnedRouter
from serve_apps.routing.rules import Features


class Gateway:
    """Everything a request needs, handed in.

    Args:
        tiers: by name; those that are ready, and ``auto``, are what clients may ask for.
        embedding_model: the name clients ask for embeddings by.
        question_of: the search question of a conversation (``answering.conversation.standalone_question``).
        longest_finding: the longest thing a guard can find, in characters (``pii.MAX_ENTITY_CHARS``).
        features_of: what of question and passages the router looks at.
        tokens: counts usage and cuts at ``max_tokens``.
        note_gap: keeps what was not answered (``gaps.book.GapNotes.note``).
        learned: the learned part of ``auto``; None: the rules alone decide.
        versions: of settings and guard policy, for the answers that are kept.
        budget: reserves and settles; None: nothing is booked.
        trail: writes down what is asked by whom; None: nothing is.
        policies: which guard may do what, for whom; None: the shipped ones.
        feedback: takes what is said of answers; None: nobody does.
        review: keeps what policies send to the review queue; None: nobody does.
        answers: the folder in which gateways share the answers they keep; None: each keeps its own.
        quote_of: the answer that quotes what was found for a question; None: no questions are held to be alike.
    """

    def __init__(
        self,
        section: ServeSection,
        *,
        guard: GuardClient,
        retriever: RetrieverClient,
        tiers: Mapping[str, TierClient],
        embedding_model: str,
        question_of: Callable[[Sequence[tuple[str, str]]], str],
        longest_finding: int,
        journal: Journal,
        features_of: Callable[[str, Retrieval], Features] | None = None,
        tokens: TokenCounter | None = None,
        note_gap: Callable[[Ask, str, Retrieval, Done], None] | None = None,
        learned: LearnedRouter | None = None,
        versions: Versions | None = None,
        budget: Budget | None = None,
        trail: AuditTrail | None = None,
        policies: Policies | None = None,
        feedback: FeedbackDesk | None = None,
        review: ReviewDesk | None = None,
        answers: Path | None = None,
        quote_of: Callable[[str, Retrieval], Answer] | None = None,
    ) -> None:
        counter = tokens or RegexTokenCounter()
        hold_back = max(section.hold_back_chars, longest_finding + 8)  # 8: what rules look at behind a finding
        self.tiers, self._journal, self.budget, self._trail = Tiers(tiers), journal, budget, trail
        self._note_gap, self._feedback = note_gap or (lambda *_: None), feedback
        self._review = review
        self._hops = Hops(guard, retriever, section.guard_timeout_s, policies, review.note if review else None)
        self._planner = Planner(self.tiers, self._hops, question_of, features_of or (lambda *_: Features()), learned)
        self._speaker = Speaker(section, self.tiers, self._hops, counter, hold_back)
        self.admission = Admission(section.longest_wait_s)
        self._turns = Turns(section.searches_at_once * section.retriever_replicas.max)
        texts = Turns(section.retriever_replicas.max)
        self.lookups = Lookups(self._hops, embedding_model, counter, budget, self._turns, texts)
        self.collections = KnownCollections(self._hops)
        self._manners = Manners(self._hops, self.lookups.starters, counter)
        room = section.cache.mb << 20 if section.cache.on else 0
        cache = AnswerCache(room, section.cache.ttl_s, folder=answers)
        alike = AlikeQuestions(section.cache.alike)
        known = self.collections, versions or Versions(), learned
        self._recall = Recall(cache, alike, self.tiers, self._hops, *known, quote_of)

    async def answer(self, ask: Ask, record: RequestRecord) -> AsyncGenerator[Event, None]:
        """Answer a conversation: checked text, then one Done.

        Raises:
            ApiError: unknown model, the guard refused the input, or a limit is reached.
            UnavailableError: guard, retriever, tier or ledger is down; text not yet yielded is dropped.
        """
        if self.budget:  # reserved until it is settled
            await self.tiers.refresh()
            who = record.principal
            ask = await self.budget.answer(ask, record, self.tiers.names_for(who), self.tiers.may_answer(who))
        answer = self._answer(ask, record)
        sampled = answer if self._trail is None else self._trail.sampled(answer, ask, record)
        async with aclosing(sampled) as events:
            async for event in events:
                # Its turn came; how long a client takes to listen is its own affair. And nobody asks for more than the
                # Done: what closes the walk there shall not look like one who gave up.
                if record.stream or isinstance(event, Done):
                    record.had_its_turn()
                if not isinstance(event, Done):
                    record.said.append(event.text)
                else:
                    self._ended(ask, event, record)
                yield event

    def _ended(self, ask: Ask, done: Done, record: RequestRecord) -> None:
        """Note what a client got, before it has the end."""
        if self.budget:
            self.budget.settle(record)
        if self._feedback:
            self._feedback.answered(ask, done, record)

    async def _answer(self, ask: Ask, record: RequestRecord) -> AsyncGenerator[Event, None]:
        await self.tiers.refresh()  # models that went live or died since
        question = self._planner.question(ask, record)  # a known model, something to ask
        kind = self._manners.kind(ask)  # thanks, a greeting, "what can you do"
        key = self._recall.key(ask, record, courtesy=bool(kind))  # None: answered anew
        if kind:
            async with aclosing(self._manners.reply(kind, ask, record)) as reply:
                async for event in reply:
                    yield event
            return
        if kept := await self._recall.find(key, ask, record):  # asked before, guard(in) passed, nothing changed since
            for event in self._recall.replay(kept, record):
                yield event
            return
        # Its turn is over when its text begins to be written, and where that is there at once, when it was checked.
        async with self._turns.of(record), aclosing(self._worked(key, ask, question, record)) as events:
            async for event in events:
                yield event

    async def _worked(
        self, key: CacheKey | None, ask: Ask, question: str, record: RequestRecord
    ) -> AsyncGenerator[Event, None]:
        asked = await self._planner.checked(ask, question, record)  # guard(in) together with the retriever
        plan = self._planner.routed(ask, asked, record)  # which tier, and why
        if kept := await self._recall.find_alike(key, asked, plan, record):  # in other words, off unless wanted
            for event in self._recall.replay(kept, record):
                yield event
            return
        said = self._speaker.speak(plan, ask.sampling, record)  # tier, guard(out), fallback
        async with aclosing(self._recall.listen(said, key, ask, asked, record.principal)) as events:
            async for event in events:
                if isinstance(event, Done) and not asked.continues:
                    self._note_gap(ask, asked.question, asked.retrieval, event)
                yield event

    @property
    def queue(self) -> dict[str, float]:
        """What waits behind this gateway: ``inside`` requests; one more would wait ``expected_wait_s``."""
        return {"inside": self.admission.inside, "expected_wait_s": round(self.admission.expected_wait_s, 3)}

    async def models(self, principal: Principal) -> dict[str, dict[str, Any]]:
        """The names a key may send as ``model``, and what is known of each; ``NAME@COLLECTION`` asks a collection."""
        await self.tiers.refresh()
        names = {name: self.tiers.facts(name) for name in self.tiers.names_for(principal)}
        asked = {
            f"{name}@{card['collection']}": {**facts, "collection": card["collection"], "default": card["default"]}
            for card in await self.collections.last_seen_by(principal)
            for name, facts in names.items()
        }
        embeds = self.lookups.embedding_model
        return {**names, **asked, **({embeds: {"kind": "embeddings"}} if may_name(embeds, principal) else {})}

    async def ready(self, principal: Principal) -> dict[str, Any]:
        """Facts about the live index as a key sees it, once index and guard answer. Raises UnavailableError before."""
        return as_seen(await self._hops.ready(), principal)

    async def tidy(self, recorder: Recorder) -> None:
        """Look after what is kept, and report it; to be called every few seconds."""
        if self.budget:
            self.budget.wallet.start()
        await self._recall.tidy(recorder)
        for desk in (self._feedback, self._review):
            if desk:
                await desk.tidy()
        if self._trail is not None:
            await self._trail.tidy(recorder)

    async def read_audit(self, record: RequestRecord, request_id: str = "") -> list[dict[str, Any]]:
        """What the audit log has for whoever asks. Raises UnavailableError: it cannot be read."""
        return [] if self._trail is None else await self._trail.read(record.principal, request_id)

    async def take_feedback(self, said: Feedback, record: RequestRecord) -> dict[str, Any]:
        """Keep what is said of an answer; counts as a request.

        Raises:
            ApiError: whoever asks has no such answer, or a limit is reached.
            UnavailableError: ledger or book is down.
        """
        if self._feedback is None:
            raise ApiError("no feedback is taken here", status=404, code="not_found")
        if self.budget:
            await self.budget.lookup(FEEDBACK, 0, record)
        return await self._feedback.take(said, record)

    @property
    def review(self) -> ReviewDesk:
        """The review queue. ApiError (404): there is none here."""
        if self._review is None:
            raise ApiError("nothing is reviewed here", status=404, code="not_found")
        return self._review

    def begin(self, record: RequestRecord) -> None:
        """A request that will be worked on, before anything is done for it."""
        if self._trail is not None:
            self._trail.begin(record)

    def settle(self, record: RequestRecord) -> None:
        """The end of every request, refused ones included: what it used is booked, log line and metrics."""
        if self.budget:
            self.budget.settle(record)
        self._journal.close(record)
