"""What crosses the border between a gateway and the ledger, as plain frozen values.

Money is counted in micro-units of the currency of ``TierConfig.price``, as whole numbers: sums stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.core.identity import Limits

UNLIMITED = 1 << 62
MICRO = 1_000_000
REQUESTS, TOKENS, DAY, MONTH = "requests_per_minute", "tokens_per_minute", "tokens_per_day", "money_per_month"


@dataclass(frozen=True)
class Amount:
    """Some of a budget: requests, tokens (prompt and completion together) and money in micro-units."""

    requests: int = 0
    tokens: int = 0
    micro: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens, self.micro + other.micro)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.requests - other.requests, self.tokens - other.tokens, self.micro - other.micro)

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens or self.micro)

    def covers(self, other: Amount) -> bool:
        """Whether the other one fits into this."""
        return self.requests >= other.requests and self.tokens >= other.tokens and self.micro >= other.micro

    def at_most(self, other: Amount) -> Amount:
        """The lesser of both, each for itself."""
        return Amount(
            min(self.requests, other.requests), min(self.tokens, other.tokens), min(self.micro, other.micro)
        )  # fmt: skip

    def part(self, share: int) -> Amount:
        """One of so many shares; nothing of what is overdrawn."""
        return Amount(max(self.requests, 0) // share, max(self.tokens, 0) // share, max(self.micro, 0) // share)


NOTHING = Amount()


def micro(price: float, tokens: int) -> int:
    """What tokens cost at a price of a thousand, in micro-units, rounded up."""
    return -(-round(price * MICRO) * tokens // 1000)


@dataclass(frozen=True)
class Need:
    """What one request may use at most, and the ``least`` it makes do with where there is not that much."""

    most: Amount
    least: Amount


@dataclass(frozen=True)
class Ask:
    """A gateway wants budget of a key for requests that wait, in their order, and ``more`` for those to come.
    ``lease`` is the name that it gives to what it gets."""

    lease: str
    key_id: str
    tenant: str
    limits: Limits
    needs: tuple[Need, ...]
    more: Amount = NOTHING


@dataclass(frozen=True)
class Refusal:
    """Why a request gets nothing. ``limit``: which of the limits' fields, of the ``tenant`` or else of the key.
    ``retry_s``: when to try again. ``gone``: it stays so until the day or the month is over. ``never``: one request
    alone is more than the limit: it takes ``least`` to ``most`` of the ``whole`` that there is when nothing is used."""

    limit: str
    of_tenant: bool
    retry_s: float
    gone: bool = False
    never: bool = False
    least: int = 0
    most: int = 0
    whole: int = 0


@dataclass(frozen=True)
class Standing:
    """How a key stands with its limits a minute: those of itself and its tenant, whichever is tighter. None: there is
    no limit. ``reset``: seconds until all of it is free again."""

    requests_limit: int | None = None
    requests_left: int = 0
    requests_reset_s: float = 0.0
    tokens_limit: int | None = None
    tokens_left: int = 0
    tokens_reset_s: float = 0.0


FREE = Standing()


@dataclass(frozen=True)
class Grant:
    """The answer to an Ask: what each need gets (or why not), what is there for later requests, and how it stands."""

    lease: str
    granted: tuple[Amount | Refusal, ...]
    rest: Amount
    standing: Standing


@dataclass(frozen=True)
class Used:
    """A row of the books: what a key used of a tier on a day (UTC, ``2026-11-29``)."""

    day: str
    key_id: str
    tenant: str
    tier: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    micro: int = 0

    @property
    def amount(self) -> Amount:
        """What it is of a budget."""
        return Amount(self.requests, self.prompt_tokens + self.completion_tokens, self.micro)


@dataclass(frozen=True)
class UsageRow:
    """What a key used of a tier on a day (UTC). ``money`` is in the currency of ``TierConfig.price``."""

    day: str
    key_id: str
    tenant: str
    tier: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    money: float


@dataclass(frozen=True)
class Returned:
    """What comes back of a lease: used or not needed."""

    lease: str
    amount: Amount


@dataclass(frozen=True)
class Report:
    """What a gateway did since its last report. ``number`` counts up: a report that comes twice is taken once."""

    number: int
    rows: tuple[Used, ...] = ()
    returned: tuple[Returned, ...] = ()


@dataclass(frozen=True)
class Message:
    """What a gateway (``holder``) tells the ledger. Every lease of it that is not among those ``alive`` comes back,
    also one of which the gateway never heard because the answer was lost. ``number`` counts up: a message that was
    overtaken by a later one is refused, since it does not know what that one was lent."""

    holder: str
    number: int
    alive: tuple[str, ...] = ()
    reports: tuple[Report, ...] = ()
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What the ledger says to a gateway: a grant for each ask, and the limits of all tenants that have any."""

    grants: tuple[Grant, ...] = ()
    tenants: dict[str, Limits] = field(default_factory=dict)
