"""From a plan to what the client gets: the tier, guard(out) window by window, stop sequences, and the end.

Text is checked as soon as some of it may leave: after growing amounts, and where a tier is slow after so much time.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from cluster.core.errors import PlinthError
from cluster.core.identity import Principal
from cluster.core.records import Answer, Verdict
from cluster.core.sections.serve import ServeSection
from serve_apps.errors import TOO_LONG, AbstainedError, DoubtedError, SwitchedOffError, UnavailableError
from serve_apps.gateway.citations import shown, texts_of
from serve_apps.gateway.exchange import AnswerPlan, Done, Event, TextDelta
from serve_apps.gateway.hops import Hops, passed
from serve_apps.gateway.inside import asked_inside
from serve_apps.gateway.outside import asked_outside
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.rights import answering
from serve_apps.gateway.stop_sequences import Shaper
from serve_apps.gateway.tiers import Tiers
from serve_apps.gateway.token_counts import TokenCounter
from serve_apps.guards.protocol import OUT
from serve_apps.guards.window import OutputWindow, Placeholders
from serve_apps.routing.cascade import ESCALATED, FINAL, doubt, next_tier, obstacle

FIRST_WINDOW, LARGEST_WINDOW = 32, 512  # new characters per output check
LONGEST_SILENCE_S = 0.25  # and new text waits no longer for one: a slow tier is read word by word
CONTENT_FILTER = "content_filter"
# Any other error: fallback.
INSTEAD: dict[type[PlinthError], str] = {AbstainedError: "model_abstained", SwitchedOffError: "switched_off"}
DEGRADED = ("fallback", "asleep", "switched_off")


class Speaker:
    """Has a plan's tier speak, and lets out what was checked.

    Args:
        section: deadline of a request, and when a larger tier is asked.
        tokens: counts usage and cuts at ``max_tokens``.
        hold_back: characters of checked text that must follow a character before it may leave.
    """

    def __init__(self, section: ServeSection, tiers: Tiers, hops: Hops, tokens: TokenCounter, hold_back: int) -> None:
        self._tiers, self._hops, self._tokens, self._hold_back = tiers, hops, tokens, hold_back
        self._deadline_ms, self._cascade = section.request_timeout_s * 1000, section.cascade

    async def speak(self, plan: AnswerPlan, sampling: Sampling, record: RequestRecord) -> AsyncGenerator[Event, None]:
        """Checked text, then one Done. What ``auto`` chose may be down by now, hold too few tokens for question and
        passages, or abstain where these do support an answer, and what is external may be switched off: before its
        first word, another tier answers instead. So does a larger one, once, where the answer is not borne out.

        Raises:
            UnavailableError: guard or tier is down; text not yet yielded is dropped.
            PlinthError: the tier that the client named does not take what it was sent.
        """
        while True:
            silent = True
            try:
                async with aclosing(self._answer(plan, sampling, record)) as events:
                    async for event in events:
                        silent = False
                        yield event
                return
            except DoubtedError as error:
                plan = self._escalated(plan, error, record)
                continue
            except PlinthError as error:
                instead = self._instead(plan, record.principal)
                if not silent or instead is None or not _another_may(error, plan):
                    raise
                why = INSTEAD.get(type(error), "fallback")
            plan = replace(plan, decision=replace(plan.decision, tier=instead.name, reason=why), state=instead)
            record.tier, record.routed = instead.name, why

    def _instead(self, plan: AnswerPlan, principal: Principal) -> TierState | None:
        """The tier that may answer in place of the chosen one; None where the client named one of this house, or there
        is none for its key. The fallback, which has learnt nothing, is for every key."""
        state, named = plan.state, plan.decision.reason == "requested"
        if named and not state.external:
            return None
        found = self._tiers.state(state.instead) if state.instead else self._tiers.fallback
        if found is None or not found.ready or found.external or found.name == state.name:
            return None
        if not found.fallback and not answering([found], principal):
            return None
        return found if found.continues or not plan.asked.continues else None

    def _may_abstain(self, plan: AnswerPlan, principal: Principal) -> bool:
        """Whether the answer is that it does not know: the client named the tier, or no other one could say more."""
        return plan.decision.reason == "requested" or self._instead(plan, principal) is None

    def _larger(self, plan: AnswerPlan, record: RequestRecord) -> TierState | None:
        """The tier that may be asked after the one of the plan."""
        if plan.decision.reason in FINAL or plan.asked.continues:
            return None
        allowed = answering(self._tiers.states, record.principal)
        return next_tier(plan.state, allowed, self._cascade, record.principal.models)

    def _escalated(self, plan: AnswerPlan, error: DoubtedError, record: RequestRecord) -> AnswerPlan:
        """The same ask for the larger tier."""
        to, told = self._tiers[error.extras["to"]].state, {"from": plan.decision.tier, **error.extras}
        record.tier, record.routed = to.name, ESCALATED
        decision = replace(plan.decision, tier=to.name, reason=ESCALATED, cascade=told)
        return replace(plan, decision=decision, state=to)

    def _judged(
        self, plan: AnswerPlan, answer: Answer, larger: TierState | None, untold: bool, record: RequestRecord
    ) -> AnswerPlan:
        """The plan as it stands after its whole answer was judged.

        Args:
            untold: none of its text was let out, so that another answer may take its place.

        Raises:
            DoubtedError: a larger tier is to be asked.
        """
        why = doubt(answer, plan.asked.retrieval, plan.state) if larger is not None else ""
        if not why or larger is None:
            return plan
        held = obstacle(larger, self._left_ms(record)) or ("" if untold else "told")
        if not held:
            spent = answer.prompt_tokens + answer.completion_tokens
            raise DoubtedError(f"{plan.decision.tier}: {why}", to=larger.name, why=why, tokens=spent)
        told = {"from": plan.decision.tier, "to": "", "why": why, "held": held}
        return replace(plan, decision=replace(plan.decision, cascade=told))

    def _waits(self, plan: AnswerPlan, larger: TierState | None, record: RequestRecord) -> bool:
        """Whether text has to wait for the end of its answer, as that may be passed over for another one yet."""
        return larger is not None and not plan.state.checked and not obstacle(larger, self._left_ms(record))

    def _left_ms(self, record: RequestRecord) -> float:
        return self._deadline_ms - record.elapsed_ms

    async def _answer(self, plan: AnswerPlan, sampling: Sampling, record: RequestRecord) -> AsyncGenerator[Event, None]:
        reply = _Reply(plan, Shaper(self._tokens, sampling.max_tokens, sampling.stops), self._hold_back)
        record.degraded = record.degraded or _degraded(plan)
        larger, untold = self._larger(plan, record), True
        async with aclosing(self._said(plan, sampling, record)) as items:
            while reply.answer is None:
                with record.stage("tier"):
                    item = await anext(items, None)
                if item is None:
                    raise UnavailableError(f"the tier {plan.decision.tier} broke off its answer")
                if isinstance(item, str):
                    record.end_turn()  # it is being written, beside others
                if isinstance(item, Answer):
                    reply.plan = plan = self._judged(plan, item, larger, untold, record)
                    if not item.grounded and not reply.said and not self._may_abstain(plan, record.principal):
                        raise AbstainedError(f"the tier {plan.decision.tier} abstained")
                    reply.end(item)
                elif reply.hear(item) and not (untold and self._waits(plan, larger, record)):
                    check = (await self._hops.guard_out([reply.window.text()], record))[0]
                    if check.blocked:
                        yield self._done(reply, _withheld(), [], record)
                        return
                    if self._hops.whole(record):
                        continue
                    waits = self._hops.waits(reply.window.text(), record)
                    if text := reply.shaper.feed(reply.window.release(check.spans, False, waits)):
                        untold = False
                        yield TextDelta(text)
        quoted = texts_of(reply.answer.citations)
        named = [*reply.answer.closest, *reply.answer.not_found]
        said = [reply.window.text(), *quoted, *named]
        meant = plan.asked.retrieval.understood.searched_for
        checks = await self._hops.guard_out([*said, meant] if meant else said, record)
        checks, beside = checks[: len(said)], checks[len(said) :]
        if any(check.blocked for check in checks):
            yield self._done(reply, _withheld(), [], record)
            return
        if text := reply.shaper.feed(reply.window.release(checks[0].spans, final=True), final=True):
            yield TextDelta(text)
        texts = zip((*quoted, *named), checks[1:], strict=True)
        clean = [reply.placeholders.redact(text, check.spans) for text, check in texts]
        at, after = len(quoted), len(quoted) + len(reply.answer.closest)
        answer = replace(reply.answer, closest=tuple(clean[at:after]), not_found=tuple(clean[after:]))
        yield self._done(reply, answer, clean[:at], record, passed(meant, beside, reply.placeholders))

    def _said(self, plan: AnswerPlan, sampling: Sampling, record: RequestRecord) -> AsyncGenerator[str | Answer, None]:
        tier = self._tiers[plan.decision.tier]
        if plan.state.external or plan.state.asleep:
            record.end_turn()  # how long it takes is not for others to wait for
        if plan.state.external:
            if not plan.state.enabled:
                raise SwitchedOffError(f"the tier {plan.state.name} is switched off")
            if not plan.state.ready:
                raise UnavailableError(f"the tier {plan.state.name} is not there, or cannot use its key")
            return asked_outside(tier, plan.asked, sampling, self._hops, record)
        if plan.asked.continues:
            return tier.complete(plan.asked.question, sampling)
        if plan.state.continues:
            return asked_inside(tier, plan.asked, sampling, self._hops, record)
        return tier.stream(plan.asked.question, plan.asked.retrieval, sampling)

    def _done(
        self, reply: _Reply, answer: Answer, quoted: list[str], record: RequestRecord, searched_for: str = ""
    ) -> Done:
        """The end, with usage and the contract's facts; ``quoted`` are the checked texts of the citations, and
        ``searched_for`` is checked too."""
        plan, asked, sent = reply.plan, reply.plan.asked, reply.shaper.sent
        record.grounded, record.reason = answer.grounded, answer.reason
        record.labelled = record.labelled or any(plan.state.access)
        record.model_version = plan.state.model_version or None
        record.prompt_tokens = answer.prompt_tokens or sum(self._tokens.count(text) for _, text in asked.turns)
        record.completion_tokens = answer.completion_tokens or self._tokens.count(sent)
        if not any(verdict.stage == OUT for verdict in record.verdicts):
            record.judged((Verdict(OUT, "allow"),))
        record.degraded = record.degraded or ("passages" if answer.dropped_passages else "")
        plinth = {
            "answer_id": record.answer_id,
            "tier": plan.decision.tier,
            "model_version": plan.state.model_version,
            "route": plan.decision.told(),
            "citations": shown(answer.citations, quoted),
            "grounded": answer.grounded,
            "reason": answer.reason,
            "form": answer.form,
            "searched_for": searched_for,
            "closest": list(answer.closest),
            "not_found": list(answer.not_found),
            "confidence": answer.confidence,
            "collection": asked.retrieval.collection,
            "index_version": asked.retrieval.index_version,
            "index_as_of": asked.retrieval.index_as_of,
            "knowledge_cutoff": plan.state.knowledge_cutoff or asked.retrieval.index_as_of,
            "degraded": bool(record.degraded),
            "external": plan.state.external,
            "reader": asked.retrieval.reader,
            "dropped_passages": answer.dropped_passages,
            "cache": record.cache,
            "verdicts": [verdict.to_dict() for verdict in record.verdicts],
            "timings_ms": record.timings(),
        }
        withheld = answer.reason == CONTENT_FILTER
        finish = CONTENT_FILTER if withheld else reply.shaper.finish or answer.finish
        return Done(finish, record.prompt_tokens, record.completion_tokens, plinth)


class _Reply:
    """One reply as it grows: what the tier said, the window over it, and what of it may leave."""

    def __init__(self, plan: AnswerPlan, shaper: Shaper, hold_back: int) -> None:
        self.plan, self.shaper, self.placeholders = plan, shaper, Placeholders()
        self.window = OutputWindow(hold_back, self.placeholders)
        self.answer: Answer | None = None
        self.said = ""
        self._hold_back, self._unchecked, self._due = hold_back, 0, FIRST_WINDOW
        self._checked_at = -math.inf

    def hear(self, text: str) -> bool:
        """Take more text; True when it is time for a check, which is then as good as done."""
        self.said, self._unchecked = self.said + text, self._unchecked + len(text)
        self.window.push(text)
        if self.shaper.finish or self.window.pending <= self._hold_back:  # nothing could leave
            return False
        now = time.monotonic()
        enough = self._unchecked >= self._due
        if not enough and now - self._checked_at < LONGEST_SILENCE_S:
            return False
        if enough:
            self._due = min(LARGEST_WINDOW, 2 * self._due)
        self._unchecked, self._checked_at = 0, now
        return True

    def end(self, answer: Answer) -> None:
        """Take the answer, and what of its text has not been said yet."""
        self.answer = answer
        self.window.push(answer.text[len(self.said) :] if answer.text.startswith(self.said) else "")


def _another_may(error: PlinthError, plan: AnswerPlan) -> bool:
    """Whether another tier may do better than one that failed so."""
    too_long = error.extras.get("code") == TOO_LONG and plan.decision.reason != "requested"
    return too_long or isinstance(error, UnavailableError)


def _degraded(plan: AnswerPlan) -> str:
    """Why the answer of this plan is less than it should be; empty where it is not."""
    if plan.decision.reason in DEGRADED:
        return plan.decision.reason
    return "retrieval" if plan.asked.retrieval.degraded else ""


def _withheld() -> Answer:
    return Answer(text="", grounded=False, reason=CONTENT_FILTER)
