"""How a run ended, left by the workers in its folder for the driver to read. Imports neither ray nor torch."""

from __future__ import annotations

import json
import posixpath
from dataclasses import asdict, dataclass
from typing import Literal

from cluster.core import errors
from cluster.core.errors import PlinthError, TrainingError
from cluster.core.storage import Store

OUTCOME = "outcome.json"
STOP = "stop.json"  # the driver's wish that the run stop with a checkpoint
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
