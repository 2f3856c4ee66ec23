"""The one error family of Plinth, and the exit codes it maps to.

Every error carries one human message (what was wrong, where, what to do) and keyword-only extras for machines.
Errors survive pickling: Ray re-creates exceptions with ``cls(*args)``, so an ``__init__`` with other positional
arguments would reach the driver as something no ``except`` clause matches.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Process exit codes of every ``plinth`` verb (contract)."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    BAD_INPUT = 3
    REFUSED = 4
    ENVIRONMENT = 5
    INTERRUPTED = 130


class PlinthError(Exception):
    """Base of all errors Plinth raises on purpose.

    Args:
        message: one line for a person: what was wrong, where, and what to do.
        **extras: machine-readable details (paths, versions, limits). Never secrets.
    """

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, message: str, **extras: Any) -> None:
        super().__init__(message)
        self.message = message
        self.extras = extras

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.extras)


def _rebuild(cls: type[PlinthError], message: str, extras: dict[str, Any]) -> PlinthError:
    return cls(message, **extras)


class UsageError(PlinthError):
    """The command line or the configuration is wrong."""

    exit_code = ExitCode.USAGE


class BadInputError(PlinthError):
    """The data handed in cannot be used at all (single bad records are quarantined, not raised)."""

    exit_code = ExitCode.BAD_INPUT


class PolicyRefusedError(PlinthError):
    """A policy, guard or gate said no."""

    exit_code = ExitCode.REFUSED


class EnvironmentFaultError(PlinthError):
    """The machine is not ready: port, memory, disk, another Ray, a missing package."""

    exit_code = ExitCode.ENVIRONMENT


class IntegrityError(PlinthError):
    """Stored bytes do not match their manifest: refused, never half-read."""

    exit_code = ExitCode.BAD_INPUT


class IncompatibleError(PlinthError):
    """Two artefacts do not belong together (an index and another embedder, say)."""

    exit_code = ExitCode.BAD_INPUT


class TrainingError(PlinthError):
    """A training run stopped without a model: a loss that is not a number, no memory, workers that kept dying.

    ``extras`` hold ``step`` and ``checkpoint`` (the last good one) where there are any.
    """


class TooSlowError(EnvironmentFaultError):
    """This machine would not get far enough in the time given, so the work was not begun, or given up early.

    ``extras`` hold ``step_s``, the seconds that one training step took, or ``steps`` that the time is enough for, those
    ``wanted``, and the ``minutes`` that would be needed.
    """


class UnsupportedError(PlinthError):
    """Something this engine, converter or tier cannot do: refused by name, never ignored."""

    exit_code = ExitCode.BAD_INPUT
