"""How far a run is: the part of its budget that is used up, and the learning rate that follows from it.

A run ends after a number of steps or after a number of seconds. Seconds are those in which the workers had processors
(``counted_seconds``), so that a machine which others use too costs time instead of steps.
"""

from __future__ import annotations

import math

WARMUP = 0.05
COOLDOWN = 0.2  # of a WSD run: its last part, in which the rate falls
FLOOR = 0.05
FINISH_S = 4.0  # after the last step: last checkpoint, workers' end, publishing
MAX_STRETCH = 3.0  # longest that a stage takes by the clock, in units of its budget
USUAL_LOAD = 0.8  # of its threads' time that a worker computes where nobody disturbs it; it waits for others meanwhile
MIN_SHARE = 0.4  # of the budget is trained in any case: on a busy machine a late model is worth more than none


def learning_rate(
    progress: float, peak: float, schedule: str = "cosine", warmup: float = WARMUP, floor: float = FLOOR
) -> float:
    """Linear warm-up over the first ``warmup`` of the run, then down to ``floor * peak``.

    ``cosine``: at once, as a cosine (Loshchilov and Hutter 2017, without restarts). ``wsd``: constant, and down by one
    minus a square root in the last ``COOLDOWN`` of the run (Hu et al. 2024; the form of Hägele et al. 2024), so that a
    longer run can go on from before its end. ``progress`` is the finished share of the run, 0 to 1.
    """
    progress = min(1.0, max(0.0, progress))
    if progress < warmup:
        return peak * max(progress / warmup, 0.02)
    if schedule == "wsd":
        down = math.sqrt(max(0.0, (progress - 1 + COOLDOWN) / COOLDOWN))
        return peak * (floor + (1 - floor) * (1 - down))
    done = (progress - warmup) / (1 - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def counted_seconds(wall_s: float, cpu_s: float, threads: int, device: str = "cpu") -> float:
    """How many seconds of a time budget are used up.

    On a machine of its own a worker computes nearly all the time and the clock counts. Where others use the processors
    as well, only what the worker got of them counts, up to ``MAX_STRETCH`` times the budget by the clock. A worker that
    computes on another device hardly uses a processor, and has the device for itself: there the clock counts.

    Args:
        wall_s: seconds by the clock.
        cpu_s: processor seconds of the worker, all its threads together.
        threads: threads it computes with.
        device: the kind of device that it computes on.
    """
    if device != "cpu":
        return wall_s
    had = cpu_s / (max(1, threads) * USUAL_LOAD)
    return min(wall_s, max(had, wall_s / MAX_STRETCH))


def train_seconds(budget_s: float, startup_s: float) -> float:
    """Seconds of stepping in a stage's wall-clock budget, once start-up took its share and the end is provided for."""
    return max(MIN_SHARE * budget_s, budget_s - startup_s - FINISH_S)
