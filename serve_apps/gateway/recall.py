"""Answers given again: which questions are looked up, what a hit still has to pass, and what is worth keeping.

**Where the answers are.** In the machine's memory, where all gateways of an instance on it share them (``cache``), not
in an actor. An actor is one hop more for every question, those that were never asked before included; on the laptop's
cores a hop costs about what a guard's check does, and a process that all gateways wait for can hang. What was asked in
other words each gateway knows of itself. A gateway that is replaced leaves its answers; with new code or settings
nobody asks for them any more.

**What is checked for each hit.** guard(in) sees the conversation, as ever: it may refuse, and unless it lets the same
text go on as before, the answer is made anew. At the same time the retriever says which index is live and how many
decisions to forget it heeds (a list at most half a second old, which all requests share): an answer rests on a version
of one collection, as of some decisions, and whatever rests on anything else is removed at once, asked for or not. A new
decision to forget removes all answers of the index, not only those that cite the document: a list of what is in a
folder names it without citing it. Where the retriever says nothing, the question takes the usual way.

guard(out) is not asked again: what is kept is text that it let out under the same policy, which is in the key with the
code of the guards, and its verdicts are told with every hit. A check would give the same verdict for another hop.

**Who is given it.** Whoever has the rights of the one whom it was made for: tenant and groups are in the key, and
with the answer once more.

**What is not kept.** Answers that are refused, covered in part (the gap map shall hear of those each time), cut at a
limit, degraded, or given by the tier that was free at the moment, or for want of time to ask a larger one; those that
broke off never come to their end here.
Not looked up at all: continuations, courtesies, sampling without a seed, and whoever asks for a fresh answer.

**In other words** (``serve.cache.alike``, off as shipped: which threshold is right depends on the questions). Whoever
asks one question that was not asked in these words has it searched as ever. Where the documents then say the same, word
for word, to this question as to an alike one, asked of the same index and routed to the same tier, and the reader does
not doubt it (``alike``), the answer to that one is given, and ``plinth.alike`` says how alike: it saves the tier's
work, which is what takes seconds.

**No single flight.** The same question asked twice at once is answered twice: whoever waited for the other's answer
would depend on how fast that client reads, and on its staying.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace

from cluster.core.access import Rights
from cluster.core.identity import Principal
from cluster.core.records import Answer, Verdict
from cluster.core.sections.tiers import AUTO
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import UnavailableError
from serve_apps.gateway.alike import WHOLE, AlikeQuestions, AskedQuestion, Told, Wording
from serve_apps.gateway.cache import CHECKED_ANEW, OUTDATED, AnswerCache, Grounds, KeptAnswer
from serve_apps.gateway.cache_key import CacheKey, Versions, digest_of, normalised, settled
from serve_apps.gateway.collections import KnownCollections
from serve_apps.gateway.exchange import AnswerPlan, Ask, CheckedAsk, Done, Event, TextDelta
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.protocols import Recorder, TierState
from serve_apps.gateway.request_log import BYPASS, HIT, MISS, RequestRecord
from serve_apps.gateway.tiers import Tiers
from serve_apps.gateway.waiting import together
from serve_apps.guards.protocol import OUT
from serve_apps.routing.learned import LearnedRouter

OF_THE_MOMENT = ("fallback", "asleep", "less_loaded")  # reasons of a route that would be another at another time


class Recall:
    """See the module.

    Args:
        cache: one without room keeps nothing, and nobody is told of it.
        alike: what was asked in other words.
        versions: of settings and guard policy.
        learned: the learned part of ``auto``, where there is one.
        quote_of: the answer that quotes what was found for a question; None: no questions are alike.
    """

    def __init__(
        self,
        cache: AnswerCache,
        alike: AlikeQuestions,
        tiers: Tiers,
        hops: Hops,
        collections: KnownCollections,
        versions: Versions,
        learned: LearnedRouter | None,
        quote_of: Callable[[str, Retrieval], Answer] | None = None,
    ) -> None:
        self._cache, self._alike, self._tiers, self._hops = cache, alike, tiers, hops
        self._quote_of = quote_of
        self._collections = collections
        self._versions, self._learned = versions, learned
        self._live: dict[str, Grounds] = {}

    def key(self, ask: Ask, record: RequestRecord, courtesy: bool = False) -> CacheKey | None:
        """What a question is looked up under, before anything was searched; None where it is answered anew. The record
        learns which of the two."""
        if not self._cache.most_bytes:
            return None
        record.cache = BYPASS
        by_lot = bool(ask.sampling.temperature) and ask.sampling.seed is None
        drawn = by_lot and any(state.samples for state in self._may_answer(ask, record.principal))
        if courtesy or drawn or record.anew or not ask.keep or self._tiers.continues(ask):
            return None
        record.cache = MISS
        return self._made(ask, record.principal, record.collection)

    async def find(self, key: CacheKey | None, ask: Ask, record: RequestRecord) -> KeptAnswer | None:
        """The answer that was given before, once guard(in) passed and what it rests on is found unchanged.

        Raises:
            ApiError: the guard refused the input.
            UnavailableError: the guard is down.
        """
        kept = self._cache.get(key.digest) if key is not None else None
        if key is None or kept is None or kept.rights != key.rights:
            return None
        with record.stage("cache"):
            texts = [text for _, text in ask.turns]
            checks, live = await together(self._hops.guard_in(texts, record), self._grounds())
        checked = tuple((role, check.text) for (role, _), check in zip(ask.turns, checks, strict=True))
        if live is None:
            return None
        if live.get(key.collection) != kept.grounds:
            self._cache.drop(key.digest, OUTDATED)
            return None
        if digest_of(normalised(checked)) != kept.checked:
            self._cache.drop(key.digest, CHECKED_ANEW)
            return None
        return kept

    async def find_alike(
        self, key: CacheKey | None, asked: CheckedAsk, plan: AnswerPlan, record: RequestRecord
    ) -> KeptAnswer | None:
        """The answer to an alike question, which guard(in) and search have passed by now; remembers this one."""
        if key is None or not self._alike.least or self._quote_of is None or len(key.turns) != 1:
            return None
        told = Told.of(asked.retrieval, self._quote_of(asked.question, asked.retrieval))
        if told is None:
            return None
        with record.stage("cache"), suppress(UnavailableError):
            embedder, vectors = await self._hops.embed_questions([asked.question])
            group = digest_of((replace(key, turns=()), embedder))
            one = AskedQuestion(group, told, Wording.of(asked.question), array("f", vectors[0]))
            before = self._alike.like(one)
            self._alike.note(key.digest, one)
            for cosine, other in before:
                kept = self._cache.get(other)
                if kept is None or kept.rights != key.rights:
                    continue
                if _is_of(kept, asked.retrieval, plan.decision.tier, told):
                    meant = await self._hops.searched_for(asked.retrieval, record)  # not what somebody else asked
                    record.alike = round(cosine, 4)
                    own = {"alike": record.alike, "route": plan.decision.told(), "searched_for": meant}
                    return replace(kept, plinth={**kept.plinth, **own})
        return None

    def replay(self, kept: KeptAnswer, record: RequestRecord) -> Iterator[Event]:
        """The same events as the first time; the end says whose request this is, and that it was kept."""
        plinth = kept.plinth
        record.cache = HIT
        record.tier, record.routed = plinth["tier"], plinth["route"]["reason"]
        record.grounded, record.reason = plinth["grounded"], plinth["reason"]
        record.model_version = plinth["model_version"] or None
        record.documents = tuple((one["document"], one["source"]) for one in plinth["citations"])
        record.labelled = record.labelled or kept.labelled
        record.collection, record.index_version = plinth["collection"], plinth["index_version"]
        record.prompt_tokens, record.completion_tokens = kept.prompt_tokens, kept.completion_tokens
        record.judged(tuple(Verdict(**verdict) for verdict in plinth["verdicts"] if verdict["stage"] == OUT))
        yield from map(TextDelta, kept.texts)
        told = {
            "answer_id": record.answer_id,
            "cache": record.cache,
            "verdicts": [verdict.to_dict() for verdict in record.verdicts],
            "timings_ms": record.timings(),
        }
        yield Done(kept.finish_reason, kept.prompt_tokens, kept.completion_tokens, {**plinth, **told})

    async def listen(
        self,
        events: AsyncGenerator[Event, None],
        key: CacheKey | None,
        ask: Ask,
        asked: CheckedAsk,
        principal: Principal,
    ) -> AsyncGenerator[Event, None]:
        """The events as they come; at their end the answer is kept where it is worth it."""
        texts: list[str] = []
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta):
                    texts.append(event.text)
                elif key is not None and self._is_worth(event, key, ask, asked, principal):
                    self._cache.put(key.digest, _kept(texts, event, asked, key.rights, self._labelled(event, asked)))
                yield event

    def _labelled(self, done: Done, asked: CheckedAsk) -> bool:
        """Whether an answer is made of documents that not everybody may read, or by a model that was."""
        tier = self._tiers.state(done.plinth["tier"])
        return any(asked.retrieval.labels) or any(tier.access if tier else ())

    async def tidy(self, recorder: Recorder) -> None:
        """Remove what is too old or rests on what is not there any more, though nobody asks for it; report."""
        if not self._cache.most_bytes:
            return
        if len(self._cache):
            live = await self._grounds()
            self._cache.sweep(live if live is None else frozenset(live.values()))
        recorder.record("plinth_cache_entries", len(self._cache), {})
        recorder.record("plinth_cache_bytes", self._cache.bytes, {})
        for reason, count in self._cache.removed().items():
            recorder.record("plinth_cache_removed_total", count, {"reason": reason})

    def _is_worth(self, done: Done, key: CacheKey, ask: Ask, asked: CheckedAsk, principal: Principal) -> bool:
        """Whether an answer is a whole one that would be given again, and nothing changed while it was made."""
        plinth = done.plinth
        whole = plinth["grounded"] and plinth["reason"] == WHOLE and done.finish_reason == "stop"
        route = plinth["route"]
        lasting = not (plinth["degraded"] or route["reason"] in OF_THE_MOMENT or "held" in route.get("cascade", ()))
        rests = bool(asked.retrieval.index_version) and bool(asked.retrieval.collection)
        return whole and lasting and rests and self._made(ask, principal, key.collection) == key

    def _made(self, ask: Ask, principal: Principal, collection: str) -> CacheKey:
        states = tuple(settled(state) for state in self._may_answer(ask, principal))
        policy = self._learned.policy if self._learned is not None and ask.model == AUTO else None
        router = f"{policy.router} from {policy.threshold}" if policy is not None else ""
        turns = normalised(ask.turns)
        rights = Rights.of(principal)
        return CacheKey(rights, ask.model, collection, states, router, self._versions, ask.sampling, ask.plain, turns)

    def _may_answer(self, ask: Ask, principal: Principal) -> list[TierState]:
        return [state for state in self._tiers.for_key(principal) if ask.model in (AUTO, state.name)]

    async def _grounds(self) -> dict[str, Grounds] | None:
        """What answers rest on now, by collection as one asks for it (empty: the default); None where the retriever
        does not say. When that changed, whatever rests on something else is removed."""
        try:
            cards = await self._collections.cards()
        except UnavailableError:
            return None
        live: dict[str, Grounds] = {}
        for card in cards:
            # A retriever of an earlier version, while they are replaced, does not say what it forgot.
            if "forgotten" in card:
                grounds = Grounds(card["collection"], card["index_version"], card["forgotten"])
                live |= dict.fromkeys((grounds.collection, "") if card["default"] else (grounds.collection,), grounds)
        if live != self._live:
            self._live = live
            self._cache.sweep(frozenset(live.values()))
        return live


def _is_of(kept: KeptAnswer, found: Retrieval, tier: str, told: Told) -> bool:
    """Whether an answer rests on what was found now, is that of this tier, and cites what the documents say."""
    cited = {citation["chunk"] for citation in kept.plinth["citations"]}
    return kept.grounds == _grounds_of(found) and kept.plinth["tier"] == tier and told.chunk in cited


def _grounds_of(found: Retrieval) -> Grounds:
    return Grounds(found.collection, found.index_version, found.forgotten)


def _kept(texts: list[str], done: Done, asked: CheckedAsk, rights: Rights, labelled: bool) -> KeptAnswer:
    grounds = _grounds_of(asked.retrieval)
    checked = digest_of(normalised(asked.turns))
    used = done.prompt_tokens, done.completion_tokens
    return KeptAnswer(grounds, rights, checked, tuple(texts), done.finish_reason, *used, done.plinth, labelled)
