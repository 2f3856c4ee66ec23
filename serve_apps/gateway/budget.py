"""What a request may use: the most is reserved before it begins, what it used is settled when it ended, whatever broke.

The most is what the prompt can come to, and the longest answer: ``max_tokens`` where the client says, else the tier's.
Where the client does not say and there is less left, the answer gets what there is and ends with ``length``. A request
is never charged more than was reserved for it: what a tier writes beyond that is the house's own affair.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from actors.ledger.amounts import DAY, MICRO, MONTH, UNLIMITED, Amount, Need, Refusal, Standing, UsageRow, Used, micro
from actors.ledger.wallet import Hold, RefusedError, Wallet
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.tiers import TierConfig
from serve_apps.errors import ApiError, UnavailableError, bad_request
from serve_apps.gateway.exchange import Ask
from serve_apps.gateway.request_log import HIT, NO_TIER, RequestRecord
from serve_apps.gateway.token_counts import TokenCounter

LEAST_ANSWER = 16  # tokens; with less there is no answer worth the name
WRITES = 96  # a model that writes from evidence writes so much whatever the client says (grounded.NEW_TOKENS)
MOST = ("reads", "writes", "price")
# What the books call requests that no tier answers.
EMBEDDING, SEARCH, FEEDBACK, STARTERS = "embeddings", "search", "feedback", "examples"
NAMES = {
    "requests_per_minute": "requests a minute", "tokens_per_minute": "tokens a minute",
    "tokens_per_day": "tokens a day", "money_per_month": "money a month",
}  # fmt: skip


@dataclass(frozen=True)
class MostOfTier:
    """What an answer of a tier takes at most, in tokens; ``price`` of a thousand. ``reads`` beside what the client
    sent: passages and instructions. ``alone``: who asks for it by name gets no other one."""

    reads: int
    writes: int
    price: float
    alone: bool = True

    @classmethod
    def of(cls, tier: TierConfig, section: AnswerSection) -> MostOfTier:
        """What its settings allow."""
        reads = 0 if tier.kind == "quote" else tier.answers(section).prompt_tokens
        return cls(reads, tier.max_new_tokens, tier.price, not tier.external)


@dataclass
class Reserved:
    """One request's reservation, kept in its record until the end."""

    hold: Hold
    sent: int
    prompt: int
    completion: int
    tier: str = NO_TIER


class Budget:
    """Reserves and settles for the requests of a gateway.

    Args:
        tiers: what each one takes at most, by name.
        tokens: counts what was sent, and what was said of an answer that broke off.
    """

    def __init__(self, wallet: Wallet, tiers: Mapping[str, MostOfTier], tokens: TokenCounter) -> None:
        self.wallet, self._tiers, self._tokens = wallet, dict(tiers), tokens

    async def answer(self, ask: Ask, record: RequestRecord, names: Collection[str], ready: Collection[str]) -> Ask:
        """Reserve for an answer; the ask comes back with the longest answer it may get.

        Args:
            names: the models that the key may ask. Another one is to look like one that is not here, also by what is
                reserved for it.
            ready: the tiers that may come to answer it, where it asks none that answers alone. What others would take
                is not held against it.

        Raises:
            ApiError: 429, a limit is reached.
            UnavailableError: the ledger does not answer; without it nothing is served.
        """
        sent = sum(self._tokens.count(text) for _, text in ask.turns)
        asked = self._tiers.get(ask.model) if ask.model in names else None
        may_answer = [most for name, most in self._tiers.items() if name in ready]
        tiers = [asked] if asked is not None and asked.alone else may_answer or list(self._tiers.values())
        reads, writes, price = (max((getattr(tier, name) for tier in tiers), default=0) for name in MOST)
        if reads:  # models may be asked: no tokenizer makes more tokens than there are bytes
            sent_at_most = sum(len(text.encode()) for _, text in ask.turns)
            prompt, writes_anyway = sent_at_most + (0 if ask.plain else reads), WRITES
        else:
            prompt, writes_anyway = sent, 0
        said = ask.sampling.max_tokens
        completion = max(writes if said is None else said, writes_anyway)
        least = min(LEAST_ANSWER, completion) if said is None else completion
        hold = await self._reserve(record, price, prompt, completion, least)
        granted = min(completion, hold.amount.tokens - prompt, _paid(hold.amount.micro, price) - prompt)
        record.reserved = Reserved(hold, sent, prompt, granted)
        if not hold.lease or (said is not None and said <= granted):
            return ask
        return replace(ask, sampling=replace(ask.sampling, max_tokens=granted))

    async def lookup(self, tier: str, sent: int, record: RequestRecord) -> None:
        """Reserve for a request of ``sent`` tokens that no tier answers (EMBEDDING, SEARCH, FEEDBACK, STARTERS).
        Raises as ``answer``."""
        record.reserved = Reserved(await self._reserve(record, 0.0, sent, 0, 0), sent, sent, 0, tier)

    async def usage(self, record: RequestRecord, since: str, until: str, tenant: str) -> list[UsageRow]:
        """The books of whoever asks; with the scope ``admin`` those of any tenant, by its name.

        Raises:
            ApiError: 403, another scope is needed; 400, a day is none.
            UnavailableError: the ledger does not answer.
        """
        who = record.principal
        if tenant and not who.may("admin"):
            message = "the usage of a tenant is for keys with the scope admin"
            raise ApiError(message, status=403, kind="permission", code="scope_missing")
        try:
            return await self.wallet.usage(since, until, "" if tenant else who.key_id, tenant or who.tenant)
        except UsageError as error:
            raise bad_request(error.message) from None
        except EnvironmentFaultError as error:
            raise UnavailableError("the ledger is not available") from error

    def settle(self, record: RequestRecord) -> None:
        """Book what a request used, once. One that failed for a fault of ours before a word was said costs nothing."""
        reserved, record.reserved = record.reserved, None
        if reserved is None:
            return
        said = self._tokens.count("".join(record.said)) if record.completion_tokens is None else 0
        failed = record.status >= 500 and not said and record.completion_tokens is None
        if failed:
            self.wallet.release(reserved.hold)
            return
        # Of an answer that broke off nobody says what the tier read: it is what the client sent, as counted here.
        worked = said or record.tier or (reserved.tier != NO_TIER and record.status < 400)
        prompt = record.prompt_tokens if record.prompt_tokens is not None else reserved.sent if worked else 0
        completion = record.completion_tokens if record.completion_tokens is not None else said
        if reserved.hold.lease:
            prompt, completion = min(prompt, reserved.prompt), min(completion, reserved.completion)
        tier = record.tier or reserved.tier
        price = self._tiers[tier].price if tier in self._tiers and record.cache != HIT else 0.0
        money = micro(price, prompt + completion)
        if reserved.hold.lease:  # a dearer tier may have gone live meanwhile
            money = min(money, reserved.hold.amount.micro)
        who = record.principal
        today = datetime.now(UTC).date().isoformat()
        row = Used(today, who.key_id, who.tenant, tier, 1, prompt, completion, money)
        self.wallet.settle(reserved.hold, row)

    async def _reserve(self, record: RequestRecord, price: float, prompt: int, most: int, least: int) -> Hold:
        def amount(completion: int) -> Amount:
            return Amount(1, prompt + completion, micro(price, prompt + completion))

        with record.stage("budget"):
            try:
                hold = await self.wallet.reserve(record.principal, Need(amount(most), amount(least)))
            except RefusedError as error:
                record.rate_limits = headers(error.extras["standing"])
                raise refused(error.refusal) from None
            except EnvironmentFaultError as error:
                raise UnavailableError("the ledger is not available (nothing is served unbooked)") from error
        record.rate_limits = headers(hold.standing)
        return hold


def _paid(amount: int, price: float) -> int:
    """How many tokens so much money (micro-units) pays for."""
    each = round(price * MICRO)
    return amount * 1000 // each if each else UNLIMITED


def headers(standing: Standing) -> dict[str, str]:
    """How a key stands, as OpenAI's headers; empty where it has no limit a minute."""
    told = {}
    for name in ("requests", "tokens"):
        if (limit := getattr(standing, f"{name}_limit")) is not None:
            told[f"x-ratelimit-limit-{name}"] = str(limit)
            told[f"x-ratelimit-remaining-{name}"] = str(max(0, getattr(standing, f"{name}_left")))
            told[f"x-ratelimit-reset-{name}"] = duration(getattr(standing, f"{name}_reset_s"))
    return told


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: ``6m0s``, ``1s``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def refused(refusal: Refusal) -> ApiError:
    """A refusal as the client gets it: to come again soon, or not to come again before the budget is renewed."""
    whose = "tenant" if refusal.of_tenant else "key"
    retry = str(math.ceil(refusal.retry_s))
    if refusal.never:
        money = refusal.limit == MONTH
        sums = (refusal.least, refusal.most, refusal.whole)
        least, most, limit = (f"{one / MICRO:,.6g}" if money else f"{one:,}" for one in sums)
        takes = f"at least {least}" if most == least else f"up to {most}, and with the shortest answer {least}"
        message = (
            f"this request alone may take {takes}, and the limit of this {whose} ({NAMES[refusal.limit]}) is {limit}: "
            "send less, ask for a shorter answer or a smaller model, or have the limit raised (`plinth keys`)"
        )
        kind = code = "insufficient_quota" if refusal.limit in (DAY, MONTH) else "rate_limit_exceeded"
        kind, said = kind if refusal.limit in (DAY, MONTH) else "rate_limit_error", {"x-should-retry": "false"}
    elif refusal.limit in (DAY, MONTH) and refusal.gone:
        what = "today" if refusal.limit == DAY else "this month"
        message = f"the budget of this {whose} ({NAMES[refusal.limit]}) is used up for {what}"
        kind = code = "insufficient_quota"
        said = {"x-should-retry": "false", "retry-after": retry}
    else:
        message = f"the limit of this {whose} ({NAMES[refusal.limit]}) is reached; try again in {retry} s"
        kind, code, said = "rate_limit_error", "rate_limit_exceeded", {"retry-after": retry}
    return ApiError(message, status=429, kind=kind, code=code, headers=said)
