"""How much a run may use up: steps, tokens, epochs, seconds, FLOPs or money; whichever ends first. Pure.

The finished share drives the learning rate. It is that of the limits which any machine reaches at the same step, where
there are any; the clock drives it only where the clock (or money, which is time) is all there is, so that a run by
steps or tokens gives the same weights on a fast and on a slow machine. A clock that ends such a run early ends it in
the middle of its schedule, with a checkpoint to go on from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from cluster.core.errors import UsageError

Limit = Literal["steps", "tokens", "epochs", "seconds", "flops", "money"]
BY_CLOCK: tuple[Limit, ...] = ("seconds", "money")


@dataclass(frozen=True)
class Spent:
    """What a run has used up, earlier attempts included. ``seconds`` are those that count
    (``schedule.counted_seconds``); ``clock_s`` are those by the clock, which cost money."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    clock_s: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The limits of a run; 0 is none, and one must be given.

    Attributes:
        steps, tokens: of the whole run.
        epochs: passes over the data. seconds: of stepping.
        flops: floating-point operations. money: in the currency of ``price_per_hour``.
        steps_per_epoch, flops_per_token, price_per_hour (of all workers together): what turns what was spent into
            these; needed for them.
        fewest_steps: the limit of epochs ends no run before this step.
    """

    steps: int = 0
    tokens: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    flops: float = 0.0
    money: float = 0.0
    steps_per_epoch: int = 0
    flops_per_token: float = 0.0
    price_per_hour: float = 0.0
    fewest_steps: int = 0

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            UsageError: a negative one, none at all, or one that nothing measures.
        """
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise UsageError(
                    f"a budget's {field.name} must be 0 (no limit) or more, not {getattr(self, field.name)}"
                )
        for limit, unit, what in (
            ("epochs", "steps_per_epoch", "the steps of an epoch are not known"),
            ("flops", "flops_per_token", "the FLOPs of a token are not known for this model"),
            ("money", "price_per_hour", "no price per hour is given"),
        ):
            if getattr(self, limit) and not getattr(self, unit):
                raise UsageError(f"a budget of {limit} cannot be kept: {what}")
        if not self.limits():
            raise UsageError("a run needs a budget: steps, tokens, epochs, seconds, FLOPs or money")

    def limits(self) -> tuple[Limit, ...]:
        """The limits that are set."""
        names: tuple[Limit, ...] = ("steps", "tokens", "epochs", "seconds", "flops", "money")
        return tuple(name for name in names if getattr(self, name))

    def shares(self, spent: Spent) -> dict[Limit, float]:
        """How much of each limit is used up; 1 and more is over."""
        used: dict[Limit, float] = {
            "steps": spent.steps,
            "tokens": spent.tokens,
            "epochs": spent.steps / self.steps_per_epoch if self.steps_per_epoch else 0.0,
            "seconds": spent.seconds,
            "flops": spent.tokens * self.flops_per_token,
            "money": spent.clock_s / 3600 * self.price_per_hour,
        }
        shares = {name: used[name] / getattr(self, name) for name in self.limits()}
        if "epochs" in shares and self.fewest_steps > self.epochs * self.steps_per_epoch:
            shares["epochs"] = spent.steps / self.fewest_steps
        return shares

    def progress(self, spent: Spent) -> float:
        """Finished share, 0 to 1, as the learning rate follows it."""
        shares = self.shares(spent)
        same_everywhere = [share for name, share in shares.items() if name not in BY_CLOCK]
        return min(1.0, max(same_everywhere or shares.values()))

    def done(self, spent: Spent) -> float:
        """Finished share, 0 to 1, of whichever limit is nearest: how far the run is."""
        return min(1.0, max(self.shares(spent).values()))

    def over(self, spent: Spent) -> Limit | None:
        """The limit that is used up, None while the run goes on; asked before a step is taken."""
        shares = self.shares(spent)
        worst = max(shares, key=lambda name: shares[name])
        return worst if shares[worst] >= 1.0 else None

    def remaining_s(self, spent: Spent) -> float | None:
        """Seconds by the clock until the end at the speed so far; None before the first step."""
        done = self.done(spent)
        return spent.clock_s * (1 - done) / done if done > 0 and spent.clock_s > 0 else None
