"""Whether the time given is enough for a model: decided from the seconds that a training step takes on this machine.

Measured (LOG.md): runs with 300 steps of fine-tuning and more passed the gate; those with 8 to 88 were refused, after
minutes of work. So the first seconds of pretraining measure a step, and where fine-tuning could not reach
``train.min_steps`` nothing more is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.core.sections.train import TrainSection
from train_jobs.trainer.schedule import FINISH_S

# Seconds of a fine-tuning step in units of one of pretraining: it computes a loss for its completions only. Measured
# 0.25 to 0.5; the upper end, so that the forecast is not too hopeful.
FINETUNE_STEP = 0.5


@dataclass(frozen=True)
class Forecast:
    """Steps of fine-tuning that will be made, those that are wanted, and the minutes that training would need."""

    steps: int
    wanted: int
    minutes: int

    @property
    def enough(self) -> bool:
        """Whether training is worth beginning."""
        return self.steps >= self.wanted

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        if self.enough:
            return f"about {self.steps:,} steps of fine-tuning in the time, {self.wanted:,} are wanted"
        return (
            f"this machine makes {self.steps:,} steps of fine-tuning in the time and a model needs {self.wanted:,}; "
            f"give it {self.minutes} minutes (--minutes {self.minutes})"
        )


def forecast(step_s: float, seconds: float, section: TrainSection) -> Forecast:
    """What a fine-tuning of ``seconds`` comes to where a step of pretraining takes ``step_s``.

    Args:
        step_s: counted seconds of one pretraining step (``schedule.counted_seconds``), more than 0.
        seconds: budget of fine-tuning alone.
    """
    each = step_s * FINETUNE_STEP
    steps = math.floor(max(0.0, seconds - FINISH_S) / each)
    needed = (section.min_steps * each + FINISH_S) / (1 - section.pretrain_share)
    return Forecast(steps, section.min_steps, math.ceil(needed / 60))


def slowest_step(seconds: float, section: TrainSection) -> float:
    """The counted seconds that a pretraining step may take for a fine-tuning of ``seconds`` to reach its floor; 0 where
    there is none (``RunPlan.slowest_step_s``)."""
    if not section.min_steps:
        return 0.0
    return max(1e-9, seconds - FINISH_S) / (section.min_steps * FINETUNE_STEP)
