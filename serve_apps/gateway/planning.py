"""From an ask to a plan: the question, guard(in) together with the retriever, routing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.core.sections.tiers import AUTO
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import model_not_found
from serve_apps.gateway.exchange import AnswerPlan, Ask, CheckedAsk, Turns
from serve_apps.gateway.hops import Hops, something_to_see
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.tiers import Tiers
from serve_apps.gateway.waiting import together
from serve_apps.guards.protocol import InputCheck
from serve_apps.routing.learned import LearnedRouter, Suffices
from serve_apps.routing.rules import Features, route


class Planner:
    """The stages of a request before its tier is asked.

    Args:
        question_of: the search question of a conversation (``answering.conversation.standalone_question``).
        features_of: what of question and passages the router looks at.
        learned: says whether the small tier suffices; None: the rules alone decide.
    """

    def __init__(
        self,
        tiers: Tiers,
        hops: Hops,
        question_of: Callable[[Sequence[tuple[str, str]]], str],
        features_of: Callable[[str, Retrieval], Features],
        learned: LearnedRouter | None = None,
    ) -> None:
        self._tiers, self._hops, self._question_of, self._features_of = tiers, hops, question_of, features_of
        self._learned = learned

    def question(self, ask: Ask, record: RequestRecord) -> str:
        """What the conversation asks.

        Raises:
            ApiError: no tier has the name asked for, the key may not ask it, or there is nothing to see in the
                question.
        """
        record.model = ask.model
        names = self._tiers.names_for(record.principal)
        if ask.model not in names:
            raise model_not_found(ask.model, names)  # also for one that is here, and not for this key
        with record.stage("plan"):
            return something_to_see(self._question_of(ask.turns), "messages")

    async def checked(self, ask: Ask, question: str, record: RequestRecord) -> CheckedAsk:
        """guard(in) together with the retriever: one hop's time for both.

        When the guard changed what the question is made of (redacted it, say), what was found for the first wording is
        thrown away and the redacted question is searched: neither tier nor answer ever meets the original. A plain
        prompt that a language model continues passes the guard only.
        """
        texts = [text for _, text in ask.turns]
        if self._tiers.continues(ask):
            turns = _turns(ask.turns, await self._hops.guard_in(texts, record, "prompt"))
            return CheckedAsk(turns[0][1], turns, Retrieval(turns[0][1]), continues=True)
        checks, found = await together(self._hops.guard_in(texts, record), self._found(ask, question, record))
        turns = _turns(ask.turns, checks)
        checked_question = something_to_see(self._question_of(turns), "messages")
        if checked_question != question:
            found = await self._found(ask, checked_question, record)
        return CheckedAsk(checked_question, turns, found[0], suffices=found[1])

    async def _found(self, ask: Ask, question: str, record: RequestRecord) -> tuple[Retrieval, Suffices | None]:
        """Passages for a question, and at the same time what the learned router says of it where it has a choice."""
        tiers = self._tiers.for_key(record.principal)
        if self._learned is None or ask.model != AUTO or not self._learned.chooses(tiers):
            return await self._hops.search(question, None, record), None
        return await together(
            self._hops.search(question, None, record), self._learned.judge(question, self._hops.embed_questions)
        )

    def routed(self, ask: Ask, asked: CheckedAsk, record: RequestRecord) -> AnswerPlan:
        """Choose the tier.

        Raises:
            ApiError, UnavailableError: no tier can answer.
        """
        with record.stage("route"):
            tiers = self._tiers.for_key(record.principal)
            features = self._features_of(asked.question, asked.retrieval) if ask.model == AUTO else None
            decision = route(ask.model, tiers, features, asked.suffices)
            if decision.wakes:
                self._tiers[decision.wakes].wake()
        record.tier, record.routed = decision.tier, decision.reason
        record.index_version = asked.retrieval.index_version or None
        passages = asked.retrieval.passages
        record.documents = tuple((p.document, p.source) for p in passages)
        record.documents += tuple((copy.document, copy.source) for p in passages for copy in p.also)
        record.labelled = any(asked.retrieval.labels)
        record.stages.update({f"retriever.{name}": ms for name, ms in asked.retrieval.timings_ms.items()})
        return AnswerPlan(asked, decision, next(tier for tier in tiers if tier.name == decision.tier))


def _turns(turns: Turns, checks: Sequence[InputCheck]) -> Turns:
    return tuple((role, check.text) for (role, _), check in zip(turns, checks, strict=True))
