"""Compilation seen by the watchdog: ``torch.compile`` compiles in the middle of a step, again for each new shape."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from train_jobs.trainer import watchdog

# How long a step may take at least where workers compile: one that meets a new shape alone lets the others wait for
# it, and these cannot know why.
LEAST_S = 600.0
_phases: list[AbstractContextManager[None]] = []


def tell_watchdog() -> None:
    """Let what this process compiles from now on, forward and backward, be a phase of its own: it may take long, and
    is no part of the step around it. Again changes nothing."""
    from torch._dynamo.callback import callback_handler

    watchdog.bear(LEAST_S)
    if _begin not in callback_handler.start_callbacks:
        callback_handler.register_start_callback(_begin)
        callback_handler.register_end_callback(_end)


def _begin(args: Any) -> None:
    del args
    phase = watchdog.during("compile")
    phase.__enter__()
    _phases.append(phase)


def _end(args: Any) -> None:
    del args
    _phases.pop().__exit__(None, None, None)
