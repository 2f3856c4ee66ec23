"""What a training worker takes of a machine that answers people too: little, while they want it."""

from __future__ import annotations

import contextlib
import os

NICENESS = 10


def be_nice() -> None:
    """Lower the priority of every thread of this process (Linux has one per thread; new threads inherit it). What is
    lower already stays so: root would be allowed to raise it."""
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
