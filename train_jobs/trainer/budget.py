"""How much a run may use up: steps, tokens, epochs, FLOPs, seconds or money; whichever ends first. Pure.

Steps, tokens, epochs and FLOPs come to a number of steps that any machine reaches at the same step; where one of them
is given, it alone drives the learning rate, so that the run gives the same weights on a fast and on a slow machine. A
clock that ends such a run early ends it in the middle of its schedule, with a checkpoint to go on from. Only where the
clock is the budget does it drive the learning rate, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from cluster.core.errors import UsageError
from train_jobs.trainer.schedule import train_seconds

if TYPE_CHECKING:
    from train_jobs.objectives.protocol import Batches
    from train_jobs.trainer.plan import RunPlan

Limit = Literal["steps", "seconds", "money"]


@dataclass(frozen=True)
class Spent:
    """What a run has used up, earlier attempts included. ``seconds`` are those that count
    (``schedule.counted_seconds``); ``clock_s`` are those by the clock, which cost money."""

    steps: int = 0
    seconds: float = 0.0
    clock_s: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The limits of a run; 0 is none, and one must be given.

    Attributes:
        steps, tokens, epochs: of the whole run, epochs being passes over the data; flops: floating-point operations.
        seconds: of stepping. money: in the currency of ``price_per_hour``.
        clock_leads: the seconds are the budget, and steps only end the run earlier.
        tokens_per_step, steps_per_epoch, flops_per_token, price_per_hour (of all workers together): what turns what
            was spent into these; needed for them.
        fewest_steps: the limit of epochs ends no run before this step.
    """

    steps: int = 0
    tokens: int = 0
    epochs: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    money: float = 0.0
    clock_leads: bool = False
    tokens_per_step: int = 0
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
            ("tokens", "tokens_per_step", "the tokens of a step are not known"),
            ("epochs", "steps_per_epoch", "the steps of an epoch are not known"),
            ("flops", "flops_per_token", "the FLOPs of a token are not known for this model"),
            ("money", "price_per_hour", "train.price_per_hour is not given"),
        ):
            if getattr(self, limit) and not getattr(self, unit):
                raise UsageError(f"a budget of {limit} cannot be kept: {what}")
        if not self._totals():
            raise UsageError("a run needs a budget: steps, tokens, epochs, seconds, FLOPs or money")

    @property
    def last_step(self) -> int:
        """The number of steps that steps, tokens, epochs and FLOPs come to; 0 where none of them is a limit."""
        found = [self.steps] if self.steps else []
        if self.tokens:
            found.append(math.ceil(self.tokens / self.tokens_per_step))
        if self.epochs:
            found.append(max(self.fewest_steps, math.ceil(self.epochs * self.steps_per_epoch)))
        if self.flops:
            found.append(math.ceil(self.flops / (self.flops_per_token * max(1, self.tokens_per_step))))
        return min(found, default=0)

    def _totals(self) -> dict[Limit, float]:
        money_s = self.money / self.price_per_hour * 3600 if self.money and self.price_per_hour else 0.0
        totals: dict[Limit, float] = {"steps": self.last_step, "seconds": self.seconds, "money": money_s}
        return {name: total for name, total in totals.items() if total}

    def shares(self, spent: Spent) -> dict[Limit, float]:
        """How much of each limit is used up; 1 and more is over."""
        used = {"steps": spent.steps, "seconds": spent.seconds, "money": spent.clock_s}
        return {name: used[name] / total for name, total in self._totals().items()}

    @property
    def same_everywhere(self) -> bool:
        """Whether the finished share follows from the step alone."""
        return bool(self.last_step) and not self.clock_leads

    def progress(self, spent: Spent) -> float:
        """Finished share, 0 to 1, as the learning rate follows it."""
        if self.same_everywhere:
            return min(1.0, spent.steps / self.last_step)
        return self.done(spent)

    def done(self, spent: Spent) -> float:
        """Finished share, 0 to 1, of whichever limit is nearest: how far the run is."""
        return min(1.0, max(self.shares(spent).values()))

    def over(self, spent: Spent) -> Limit | None:
        """The limit that is used up, None while the run goes on; asked before a step is taken."""
        shares = self.shares(spent)
        worst = max(shares, key=lambda name: shares[name])
        return worst if shares[worst] >= 1.0 else None

    def steps_left(self, spent: Spent) -> int | None:
        """Steps until the end at the speed so far, at least 1; None before the first step, without a limit of steps."""
        left = [self.last_step - spent.steps] if self.last_step else []
        for name, share in self.shares(spent).items():
            if name != "steps" and share > 0 and spent.steps:
                left.append(int((1 - share) / share * spent.steps))
        return max(1, min(left)) if left else None

    def remaining_s(self, spent: Spent) -> float | None:
        """Seconds by the clock until the end at the speed so far; None before the first step."""
        done = self.done(spent)
        return spent.clock_s * (1 - done) / done if done > 0 and spent.clock_s > 0 else None


def budget_of(plan: RunPlan, batches: Batches, startup_s: float, fewest_steps: int) -> Budget:
    """The budget of a plan: its steps, tokens, epochs and FLOPs, and only where it has none of them its seconds, which
    its passes over the data may end earlier.

    Args:
        batches: its data. startup_s: what the run took before its first step.
        fewest_steps: passes over small data end no run by the clock before this step.
    """
    if not (plan.steps or plan.tokens or plan.epochs or plan.flops):
        return Budget(
            seconds=train_seconds(plan.budget_s, startup_s), epochs=plan.passes, steps=plan.most_steps,
            fewest_steps=fewest_steps, steps_per_epoch=batches.steps_per_epoch, clock_leads=True,
            money=plan.money, price_per_hour=plan.price_per_hour,
        )  # fmt: skip
    flops = 0.0
    if plan.flops:
        from train_jobs.planning.flops import flops_per_token
        from train_jobs.planning.sizes import sizes_of

        flops = flops_per_token(sizes_of(plan.model), plan.model.context)
    steps = min((steps for steps in (plan.steps, plan.most_steps) if steps), default=0)
    return Budget(
        steps=steps, tokens=plan.tokens, epochs=plan.epochs, flops=plan.flops, money=plan.money,
        tokens_per_step=getattr(batches, "tokens_per_step", plan.batch_tokens),  # whole windows may be fewer or more
        steps_per_epoch=batches.steps_per_epoch, flops_per_token=flops, price_per_hour=plan.price_per_hour,
    )  # fmt: skip
