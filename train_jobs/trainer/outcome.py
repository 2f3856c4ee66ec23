"""How a run ended, left by the workers in its folder for the driver to read; what a worker's death means, and how many
a run survives. Imports neither ray nor torch."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from typing import Literal

from cluster.core import errors
from cluster.core.errors import PlinthError, TrainingError
from cluster.core.storage import Store

OUTCOME = "outcome.json"
STOP = "stop.json"  # the driver's wish that the run stop with a checkpoint
PHASE = "phase.txt"  # what the workers are busy with before the first step
# In a group's folder: what its workers are to do, how many there are while they run, whose watchdog ended it.
ORDERS, RUNNING, HUNG = "orders.json", "running.json", "hung-rank"
# A group that fails more often than this without getting further, or within FORGET_S, is given up.
MAX_FAILURES = 3
FORGET_S = 1800.0
Ended = Literal["finished", "cancelled", "interrupted", "too_slow", "failed"]


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        state: how; ``too_slow``: a step took longer than the plan allows.
        step: how far it got, in steps; checkpoint: the step of the last one, None without any.
        message, error: of a failed run what a person should read, and the error's class.
        step_s: counted seconds of one step, as far as measured.
    """

    state: Ended
    step: int
    message: str = ""
    checkpoint: int | None = None
    error: str = ""
    step_s: float = 0.0

    def write(self, store: Store, folder: str) -> None:
        """Leave it in the run's folder."""
        store.write(posixpath.join(folder, OUTCOME), json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, store: Store, folder: str) -> RunOutcome | None:
        """The outcome in a run's folder, None while the run goes on."""
        path = posixpath.join(folder, OUTCOME)
        return cls(**store.read_json(path)) if store.exists(path) else None

    def as_error(self, run_id: str) -> PlinthError:
        """The error of a failed run, of the class the worker raised where that is one of ours."""
        kind = getattr(errors, self.error, TrainingError)
        if not (isinstance(kind, type) and issubclass(kind, PlinthError)):
            kind = TrainingError
        return kind(self.message, step=self.step, checkpoint=self.checkpoint, run=run_id)


@dataclass
class Failures:
    """The failures of a group of workers that still count against it.

    One is forgotten once it is ``FORGET_S`` old and the run has got further since: a run of weeks may see many, one
    that dies again and again at the same place ends soon.
    """

    most: int = MAX_FAILURES
    forget_s: float = FORGET_S
    seen: list[tuple[float, Hashable]] = field(default_factory=list)

    def add(self, now: float, reached: Hashable) -> bool:
        """A failure at ``now`` (seconds of any clock) with the run at ``reached`` (its newest checkpoint); returns
        whether the group may start again."""
        self.seen = [(at, where) for at, where in self.seen if now - at < self.forget_s or where == reached]
        self.seen.append((now, reached))
        return len(self.seen) <= self.most


def cause_of_death(said: str, oom_kills: int = 0) -> str:
    """Why a worker process ended, in a few words, as far as it is known.

    Args:
        said: what Ray says of it.
        oom_kills: processes that the kernel of its machine killed for want of memory meanwhile, where that is known.
    """
    if re.search(r"OUT_OF_MEMORY|due to the node running low on memory|OutOfMemoryError", said):
        return "Ray ended it, because its machine was running out of memory"
    if oom_kills > 0:
        return "the kernel killed it for want of memory"
    if "NODE_DIED" in said or "node died" in said.lower() or "its node has died" in said:
        return "its machine went away"
    if "connection error code 2" in said:  # Ray goes on with guesses
        return "its process was killed or crashed, nothing says by what"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"


def short_of_memory(cause: str) -> bool:
    """Whether ``cause_of_death`` speaks of memory."""
    return "memory" in cause
