"""The table of contents of a request: ``Ask -> Plan -> events``, one line a stage, every collaborator handed in.

``answer`` is the walk: plan, guard(in) together with the retriever, routing, tier, guard(out) window by window. What
each stage learnt is noted in the request's record, which ``settle`` closes in one ``finally`` of the outermost
middleware, whatever broke. HTTP, OpenAI's shapes and deadlines are openai_http's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from cluster.core.records import Answer, Citation, Verdict
from cluster.core.sections.serve import ServeSection
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import AbstainedError, UnavailableError, bad_request, model_not_found
from serve_apps.gateway.exchange import Ask, Delta, Done, Event, Plan
from serve_apps.gateway.protocols import (
    GuardClient,
    InputCheck,
    OutputCheck,
    RetrieverClient,
    Sampling,
    TierClient,
)
from serve_apps.gateway.request_log import Journal, RequestRecord
from serve_apps.gateway.stop_sequences import Shaper
from serve_apps.gateway.tokens import Tokens, WordPieces
from serve_apps.gateway.waiting import or_unavailable, together
from serve_apps.guards.characters import visible
from serve_apps.guards.window import OutputWindow, Placeholders
from serve_apps.routing.rules import AUTO, QUOTE, Features, RouteDecision, known_models, route

GUARD = "the safety guard (nothing is sent unchecked)"
FIRST_WINDOW, LARGEST_WINDOW = 32, 512  # new characters per output check: soon at first, then seldom
CONTENT_FILTER = "content_filter"
EXAMPLES = 3  # questions on an empty page


class Gateway:
    """Everything a request needs, handed in.

    Args:
        tiers: by name; those that are ready, and ``auto``, are what clients may ask for.
        embedding_model: the name clients ask for embeddings by.
        question_of: the search question of a conversation (``answering.conversation.standalone_question``).
        longest_finding: the longest thing a guard can find, in characters (``pii.MAX_ENTITY_CHARS``).
        features_of: what of question and passages the router looks at.
        tokens: counts usage and cuts at ``max_tokens``.
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
        tokens: Tokens | None = None,
    ) -> None:
        self._section, self._guard, self._retriever, self._tiers = section, guard, retriever, dict(tiers)
        self._embedding_model, self._question_of, self._journal = embedding_model, question_of, journal
        self._features_of = features_of or (lambda question, retrieval: Features())
        self._tokens = tokens or WordPieces()
        self._hold_back = max(section.hold_back_chars, longest_finding + 8)  # 8: what rules look at behind a finding

    # -- the walk -----------------------------------------------------------------------------------------------------
    async def answer(self, ask: Ask, record: RequestRecord) -> AsyncGenerator[Event, None]:
        """Answer a conversation: checked deltas, then one Done.

        Raises:
            ApiError: unknown model, or the guard refused the input.
            UnavailableError: guard, retriever or tier is down; text not yet yielded is dropped.
        """
        await self.refresh()
        question = self._question(ask, record)
        if ask.plain and ask.model != AUTO and self._tiers[ask.model].state.continues:
            plan = await self._plan_continuation(ask, question, record)
        else:
            turns, question, retrieval = await self._check_and_search(ask.turns, question, record)
            plan = self._plan(ask, turns, question, retrieval, record)
        async with aclosing(self._speak_or_fall_back(plan, ask.sampling, record)) as events:
            async for event in events:
                yield event

    def settle(self, record: RequestRecord) -> None:
        """The end of every request, refused ones included: log line and metrics."""
        self._journal.close(record)

    # -- stages -------------------------------------------------------------------------------------------------------
    def _question(self, ask: Ask, record: RequestRecord) -> str:
        record.model = ask.model
        if ask.model not in self.models:
            raise model_not_found(ask.model, self.models)
        with record.stage("plan"):
            return _something_to_see(self._question_of(ask.turns), "messages")

    async def _plan_continuation(self, ask: Ask, question: str, record: RequestRecord) -> Plan:
        """A plain prompt passes the guard and goes to the tier as it is then; nothing is searched."""
        checks = await self._guard_in([text for _, text in ask.turns], record, "prompt")
        turns = tuple((role, check.text) for (role, _), check in zip(ask.turns, checks, strict=True))
        return self._plan(ask, turns, turns[0][1], Retrieval(question), record)

    async def _check_and_search(
        self, turns: tuple[tuple[str, str], ...], question: str, record: RequestRecord
    ) -> tuple[tuple[tuple[str, str], ...], str, Retrieval]:
        """guard(in) together with the retriever: one hop's time for both.

        When the guard changed what the question is made of (redacted it, say), what was found for the first wording is
        thrown away and the redacted question is searched: neither tier nor answer ever meets the original.
        """
        texts = [text for _, text in turns]
        checks, retrieval = await together(self._guard_in(texts, record), self._search(question, None, record))
        turns = tuple((role, check.text) for (role, _), check in zip(turns, checks, strict=True))
        checked_question = _something_to_see(self._question_of(turns), "messages")
        if checked_question != question:
            retrieval = await self._search(checked_question, None, record)
        return turns, checked_question, retrieval

    def _plan(
        self,
        ask: Ask,
        turns: tuple[tuple[str, str], ...],
        question: str,
        retrieval: Retrieval,
        record: RequestRecord,
    ) -> Plan:
        with record.stage("route"):
            tiers = [tier.state for tier in self._tiers.values()]
            features = self._features_of(question, retrieval) if ask.model == AUTO else None
            decision = route(ask.model, tiers, features)
        record.tier, record.routed = decision.tier, decision.reason
        record.index_version = retrieval.index_version or None
        record.stages.update({f"retriever.{name}": ms for name, ms in retrieval.timings_ms.items()})
        state = next(tier for tier in tiers if tier.name == decision.tier)
        plain = ask.plain and ask.model != AUTO and state.continues
        return Plan(question, turns, retrieval, decision, state, plain)

    async def _speak_or_fall_back(
        self, plan: Plan, sampling: Sampling, record: RequestRecord
    ) -> AsyncGenerator[Event, None]:
        """What ``auto`` chose may be down by now, or abstain where the passages do support an answer: before its first
        word, quote answers instead."""
        silent = True
        try:
            async with aclosing(self._speak(plan, sampling, record)) as events:
                async for event in events:
                    silent = False
                    yield event
            return
        except UnavailableError as error:
            if not silent or not self._may_fall_back(plan):
                raise
            why = "model_abstained" if isinstance(error, AbstainedError) else "fallback"
        decision = RouteDecision(QUOTE, why, plan.decision.considered)
        record.tier, record.routed = decision.tier, decision.reason
        quoting = replace(plan, decision=decision, state=self._tiers[QUOTE].state)
        async with aclosing(self._speak(quoting, sampling, record)) as events:
            async for event in events:
                yield event

    def _may_fall_back(self, plan: Plan) -> bool:
        chosen = plan.decision
        return chosen.reason != "requested" and chosen.tier != QUOTE and QUOTE in self._tiers

    async def _speak(self, plan: Plan, sampling: Sampling, record: RequestRecord) -> AsyncGenerator[Event, None]:
        """Tier and guard(out): text is checked in growing windows and leaves through stop sequences and token limit."""
        tier, placeholders = self._tiers[plan.decision.tier], Placeholders()
        window = OutputWindow(self._hold_back, placeholders)
        shaper = Shaper(self._tokens, sampling.max_tokens, sampling.stops)
        said, unchecked, due, answer = "", 0, FIRST_WINDOW, None
        if plan.plain:
            speech = tier.complete(plan.question, sampling)
        else:
            speech = tier.stream(plan.question, plan.retrieval, sampling)
        async with aclosing(speech) as items:
            while answer is None:
                with record.stage("tier"):
                    item = await anext(items, None)
                if item is None:
                    raise UnavailableError(f"the tier {plan.decision.tier} broke off its answer")
                if isinstance(item, Answer):
                    if not item.grounded and not said and self._may_fall_back(plan):
                        raise AbstainedError(f"the tier {plan.decision.tier} abstained")
                    answer = item
                    break
                said, unchecked = said + item, unchecked + len(item)
                window.push(item)
                if unchecked < due or shaper.finish:
                    continue
                check = (await self._guard_out([window.text()], record))[0]
                if check.blocked:
                    yield self._done(plan, None, [], CONTENT_FILTER, shaper, record)
                    return
                unchecked, due = 0, min(LARGEST_WINDOW, 2 * due)
                if text := shaper.feed(window.release(check.spans, final=False)):
                    yield Delta(text)
        window.push(answer.text[len(said) :] if answer.text.startswith(said) else "")
        quoted = [text for citation in answer.citations for text in _texts(citation)]
        checks = await self._guard_out([window.text(), *quoted], record)
        if any(check.blocked for check in checks):
            yield self._done(plan, None, [], CONTENT_FILTER, shaper, record)
            return
        if text := shaper.feed(window.release(checks[0].spans, final=True), final=True):
            yield Delta(text)
        clean = [placeholders.redact(text, check.spans) for text, check in zip(quoted, checks[1:], strict=True)]
        yield self._done(plan, answer, clean, shaper.finish or answer.finish, shaper, record)

    def _done(
        self,
        plan: Plan,
        answer: Answer | None,
        quoted: list[str],
        finish_reason: str,
        shaper: Shaper,
        record: RequestRecord,
    ) -> Done:
        """``answer`` is None when a guard withheld it; ``quoted`` are the checked texts of its citations."""
        answer = answer or Answer(text="", grounded=False, reason=CONTENT_FILTER)
        record.grounded, record.reason = answer.grounded, answer.reason
        record.prompt_tokens = answer.prompt_tokens or sum(self._tokens.count(text) for _, text in plan.turns)
        record.completion_tokens = answer.completion_tokens or self._tokens.count(shaper.sent)
        if not any(verdict.stage == "guard_out" for verdict in record.verdicts):
            record.judged((Verdict("guard_out", "allow"),))
        plinth = {
            "answer_id": record.request_id.replace("req_", "ans_", 1),
            "tier": plan.decision.tier,
            "model_version": plan.state.model_version,
            "route": {"reason": plan.decision.reason, "considered": plan.decision.considered},
            "citations": [_citation(c, quoted[4 * n : 4 * n + 4]) for n, c in enumerate(answer.citations)],
            "grounded": answer.grounded,
            "reason": answer.reason,
            "confidence": answer.confidence,
            "index_version": plan.retrieval.index_version,
            "index_as_of": plan.retrieval.index_as_of,
            "knowledge_cutoff": plan.state.knowledge_cutoff or plan.retrieval.index_as_of,
            "degraded": answer.dropped_passages > 0 or plan.decision.reason == "fallback",
            "dropped_passages": answer.dropped_passages,
            "cache": "off",
            "verdicts": [verdict.to_dict() for verdict in record.verdicts],
            "timings_ms": record.timings(),
        }
        return Done(finish_reason, record.prompt_tokens, record.completion_tokens, plinth)

    # -- the other routes ---------------------------------------------------------------------------------------------
    @property
    def models(self) -> tuple[str, ...]:
        """What may be asked for answers."""
        return known_models([tier.state for tier in self._tiers.values()])

    def facts(self, model: str) -> dict[str, Any]:
        """What a name is for; of a tier also its version and whether ``auto`` may choose it."""
        if model == self._embedding_model:
            return {"kind": "embeddings"}
        if model not in self._tiers:
            return {"kind": "chat"}
        state = self._tiers[model].state
        return {"kind": "chat", "version": state.model_version, "auto": state.earned}

    async def refresh(self) -> None:
        """Notice models that went live, were rolled back or died. Tiers do this in the background but for the first."""
        await asyncio.gather(*(tier.refresh() for tier in self._tiers.values()))

    @property
    def embedding_model(self) -> str:
        return self._embedding_model

    async def embed(
        self, model: str, texts: Sequence[str], record: RequestRecord
    ) -> tuple[list[list[float]], int, dict[str, Any]]:
        """Vectors of texts that passed guard(in) (PII redacted first), tokens counted, extra data."""
        record.model = model
        if model != self._embedding_model:
            raise model_not_found(model, (self._embedding_model,))
        for text in texts:
            _something_to_see(text, "input")
        checks = await self._guard_in(list(texts), record, "input")
        checked = [check.text for check in checks]
        with record.stage("embed"):
            vectors = await self._retriever.embed(checked)
        if len(vectors) != len(checked):
            raise UnavailableError("the embedder returned another number of vectors than texts")
        record.prompt_tokens = sum(map(self._tokens.count, checked))
        verdicts = [verdict.to_dict() for verdict in record.verdicts]
        return vectors, record.prompt_tokens, {"verdicts": verdicts, "timings_ms": record.timings()}

    async def search(
        self, query: str, k: int | None, record: RequestRecord
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Checked passages in the fields of a citation, best first, and extra data."""
        _something_to_see(query, "query")
        checks, retrieval = await together(self._guard_in([query], record, "query"), self._search(query, k, record))
        if checks[0].text != query:
            retrieval = await self._search(checks[0].text, k, record)
        found = [
            Citation(p.document, p.title, p.source, p.chunk, (p.start, p.end), p.text, p.score)
            for p in (retrieval.passages[:k] if k else retrieval.passages)
        ]
        texts = [text for citation in found for text in _texts(citation)]
        outgoing, placeholders = await self._guard_out(texts, record), Placeholders()
        if any(check.blocked for check in outgoing):
            raise UnavailableError("a passage did not pass the output guard")
        clean = [placeholders.redact(text, check.spans) for text, check in zip(texts, outgoing, strict=True)]
        record.index_version = retrieval.index_version
        record.stages.update({f"retriever.{name}": ms for name, ms in retrieval.timings_ms.items()})
        plinth = {
            "index_version": retrieval.index_version,
            "index_as_of": retrieval.index_as_of,
            "verdicts": [verdict.to_dict() for verdict in record.verdicts],
            "timings_ms": record.timings(),
        }
        return [_citation(citation, clean[4 * n : 4 * n + 4]) for n, citation in enumerate(found)], plinth

    async def examples(self, record: RequestRecord) -> dict[str, Any]:
        """A few questions to start with, from documents of the live index; those the guard finds fault with are left
        out, not mended. Raises UnavailableError while there is no index or no guard."""
        call = self._retriever.examples(4 * EXAMPLES)
        version, found = await or_unavailable(call, self._section.guard_timeout_s, "the index")
        record.index_version = version
        texts = [visible(example.question) for example in found]
        checks = await self._guard_out(texts, record) if texts else []
        fine = [
            {"object": "example", "question": text}
            for text, check in zip(texts, checks, strict=True)
            if not check.blocked and not check.spans
        ]
        return {"object": "list", "data": fine[:EXAMPLES], "plinth": {"index_version": version}}

    async def ready(self) -> dict[str, Any]:
        """Facts about the live index, once index and guard answer. Raises UnavailableError before."""
        info, _ = await together(
            or_unavailable(self._retriever.info(), self._section.guard_timeout_s, "the index"),
            or_unavailable(self._guard.check_input(["ready"]), self._section.guard_timeout_s, GUARD),
        )
        return info

    # -- hops ---------------------------------------------------------------------------------------------------------
    async def _guard_in(self, texts: list[str], record: RequestRecord, param: str = "messages") -> list[InputCheck]:
        with record.stage("guard_in"):
            call = self._guard.check_input(texts)
            checks = await or_unavailable(call, self._section.guard_timeout_s, GUARD)
        if len(checks) != len(texts):
            raise UnavailableError(f"{GUARD} checked another number of texts than it was given")
        verdicts = tuple(verdict for check in checks for verdict in check.verdicts)
        record.judged(verdicts or (Verdict("guard_in", "allow"),))
        for check in checks:
            if verdict := check.blocked:
                message = f"the input was refused by the rule {verdict.rule}: {verdict.detail}"
                raise bad_request(message, param, "content_policy_violation")
        return checks

    async def _guard_out(self, texts: list[str], record: RequestRecord) -> list[OutputCheck]:
        with record.stage("guard_out"):
            call = self._guard.check_output(texts)
            checks = await or_unavailable(call, self._section.guard_timeout_s, GUARD)
        if len(checks) != len(texts):
            raise UnavailableError(f"{GUARD} checked another number of texts than it was given")
        record.judged(tuple(verdict for check in checks for verdict in check.verdicts))
        return checks

    async def _search(self, question: str, k: int | None, record: RequestRecord) -> Retrieval:
        with record.stage("retriever"):
            return await self._retriever.search(question, k)


def _something_to_see(text: str, param: str) -> str:
    if not visible(text).strip():
        raise bad_request(f"{param}: there is nothing but invisible characters in it", param)
    return text


def _texts(citation: Citation) -> tuple[str, str, str, str]:
    """What of a citation is text, and so has to pass the guard."""
    return visible(citation.document), visible(citation.title), visible(citation.source), visible(citation.text)


def _citation(citation: Citation, checked: list[str]) -> dict[str, Any]:
    document, title, source, text = checked
    return replace(citation, document=document, title=title, source=source, text=text).to_dict()
