"""SIGTERM in a training worker: it saves before it goes (a node that is taken away, a scheduler's grace).

Python sets signal handlers in the main thread only, and Ray Train runs the loop in another: whoever owns the main
thread calls ``watch`` there before training begins.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class TerminatedError(RuntimeError):
    """A worker was told to end; a checkpoint was written, and another attempt goes on from it."""


_asked = threading.Event()
_training = threading.Event()


def watch() -> None:
    """Take SIGTERM as the wish to save and end, while there is a run; otherwise it does what it did before.

    In another thread than the main one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    if getattr(before, "saves", False):
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if _training.is_set():
            _asked.set()
        elif callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            raise SystemExit(128 + number)

    on_signal.saves = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, on_signal)


class Run:
    """A ``with`` block in which SIGTERM is kept until ``asked`` is looked at."""

    def __enter__(self) -> Run:
        watch()
        _asked.clear()
        _training.set()
        return self

    def __exit__(self, *_: Any) -> None:
        _training.clear()


def asked() -> bool:
    """Whether this worker was told to end since the run began."""
    return _asked.is_set()
