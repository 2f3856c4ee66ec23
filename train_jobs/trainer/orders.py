"""What rank 0 tells the other workers at a look, and how it decides: when to save, evaluate, stop, and look again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import ClassVar

from train_jobs.trainer.budget import Budget, Spent
from train_jobs.trainer.checkpoint import TrainState, best_step
from train_jobs.trainer.plan import RunPlan

# A checkpoint is evaluated while all evaluations took no more of this attempt than this: of a model that is slow to
# read one takes longer than what lies between two checkpoints. The first and the last are made in any case, and those
# that a plan asks for.
EVALUATED = 0.2
LOOK_S = 0.5  # seconds between looks: how late an order is obeyed
# A run that must not be too slow is measured over so many seconds and steps after its first one, which warms up.
PROBE_S, PROBE_STEPS = 5.0, 2
FINISHED, CANCELLED, INTERRUPTED, TOO_SLOW, EARLY, TERMINATED = range(1, 7)


@dataclass(frozen=True)
class Orders:
    """Until the next look, ``steps`` steps ahead: at step ``since`` the run is at ``progress`` (0 to 1) and gains
    ``pace`` a step; save and evaluate before; ``stop``: 0 or how the run ends."""

    since: float = 0.0
    progress: float = 0.0
    pace: float = 0.0
    save: bool = False
    evaluate: bool = False
    stop: int = 0
    steps: int = 0

    LENGTH: ClassVar[int] = 7

    def numbers(self) -> list[float]:
        """As they travel."""
        return [float(value) for value in astuple(self)]

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Orders:
        """The orders that ``numbers`` made."""
        since, progress, pace, save, evaluate, stop, steps = numbers[: cls.LENGTH]
        return cls(since, progress, pace, bool(save), bool(evaluate), int(stop), int(steps))

    def progress_at(self, step: int) -> float:
        """The finished share of the run at a step of this stretch."""
        return self.progress + self.pace * (step - self.since)


class Pilot:
    """Decides for all ranks.

    Attributes:
        saved_at: seconds of the run at its last checkpoint; saved_step: the step of that.
        evaluated_s: seconds that evaluations took in this attempt.
        step_s: counted seconds of one step, once measured for a plan that has a limit.
    """

    def __init__(self, plan: RunPlan, budget: Budget, first: int) -> None:
        self.plan, self.budget, self.first = plan, budget, first
        self.saved_at, self.saved_step = 0.0, first if first else -1
        self.step_s = self.evaluated_s = 0.0
        self._since: float | None = None  # seconds of the run when this attempt at it began
        self._probe: tuple[int, float] | None = None  # step and counted seconds from which a step is measured
        self._last: tuple[int, float, float] | None = None  # step, seconds and progress at the last look
        self._steps = 1

    def decide(
        self, state: TrainState, elapsed: float, counted: float, cancelled: bool = False, interrupted: bool = False
    ) -> Orders:
        """What to do at a look.

        Args:
            elapsed: seconds of stepping by the clock; counted: those that count against the budget.
            cancelled, interrupted: what people want.
        """
        spent = Spent(state.step, counted, elapsed)
        step, progress = state.step, self.budget.progress(spent)
        stop = self._stop(state, spent, cancelled, interrupted)
        due = self._evaluation_due(state)
        regular = elapsed - self.saved_at >= self.plan.checkpoint_s
        save = stop not in (0, EARLY) or ((regular or due) and step > 0)
        measured = any(row["step"] == step and row.get("held_out_loss") is not None for row in state.rows[-1:])
        # A checkpoint that a kill left without its figures gets them now; a run that is told to stop does not wait.
        late = step == self.saved_step == self.first or (step == 0 and not state.rows)
        self._since = elapsed if self._since is None else self._since
        beside = not self.plan.evaluate_steps and self.evaluated_s <= EVALUATED * (elapsed - self._since)
        wanted = due or late or (beside and save and step != self.saved_step)
        evaluate = stop in (0, FINISHED) and not measured and (wanted or stop == FINISHED)
        steps = 0 if stop else self._stretch(step, spent)
        pace = self._pace(step, progress)
        self._last = (step, elapsed, progress)
        if self.budget.same_everywhere:  # the rate of a step must not depend, in its last digit, on when looks were
            return Orders(0.0, 0.0, 1 / self.budget.last_step, save, evaluate, stop, steps)
        return Orders(step, progress, pace, save, evaluate, stop, steps)

    def _stop(self, state: TrainState, spent: Spent, cancelled: bool, interrupted: bool) -> int:
        limit = self.budget.over(spent)
        if limit:  # money is in no key: what it ends early is not the run that was asked for
            return INTERRUPTED if limit == "money" and self.budget.same_everywhere else FINISHED
        if self._too_slow(state.step, spent.seconds):
            return TOO_SLOW
        if cancelled:
            return CANCELLED
        if interrupted:
            return INTERRUPTED
        return EARLY if self._stale(state) else 0

    def _stale(self, state: TrainState) -> bool:
        """Whether the held-out loss has not become better for too long."""
        best = best_step(state.rows)
        after = [row for row in state.rows if row.get("held_out_loss") is not None and row["step"] > (best or 0)]
        return bool(self.plan.patience) and best is not None and len(after) >= self.plan.patience

    def _evaluation_due(self, state: TrainState) -> bool:
        return bool(self.plan.evaluate_steps) and state.step > 0 and state.step % self.plan.evaluate_steps == 0

    def _too_slow(self, step: int, counted: float) -> bool:
        """Whether the first steps say that this machine takes longer than the plan allows; looked at once a run."""
        if not self.plan.slowest_step_s or self.budget.same_everywhere or step <= self.first:
            return False
        if self._probe is None:
            self._probe = (step, counted)
            return False
        steps, seconds = step - self._probe[0], counted - self._probe[1]
        if self.step_s or steps < PROBE_STEPS or seconds < min(PROBE_S, self.budget.seconds / 4):
            return False
        self.step_s = seconds / steps
        return self.step_s > self.plan.slowest_step_s

    def _stretch(self, step: int, spent: Spent) -> int:
        """Steps until the next look: about half a second of them, no more than are left to anything that is due."""
        if self._last is None or step <= self._last[0]:
            return 1
        each = max(1e-6, (spent.clock_s - self._last[1]) / (step - self._last[0]))
        self._steps = max(1, min(2 * self._steps, int(min(LOOK_S, self.plan.checkpoint_s) / each)))
        limits = [self._steps]
        if self.plan.evaluate_steps:
            limits.append(self.plan.evaluate_steps - step % self.plan.evaluate_steps)
        if (left := self.budget.steps_left(spent)) is not None:
            limits.append(left)
        return max(1, min(limits))

    def _pace(self, step: int, progress: float) -> float:
        """What a step adds to the progress, as since the last look."""
        if self._last is None or step <= self._last[0]:
            return 0.0
        return (progress - self._last[2]) / (step - self._last[0])
