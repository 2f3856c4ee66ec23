"""Peak memory of the processes below this one, read from /proc while something runs (Linux)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

INTERVAL_S = 0.1


class PeakMemory:
    """Watches descendants in a thread; ``peaks`` is the high-water mark of each (MiB) that ``wanted`` accepts.

    The kernel keeps the mark itself (VmHWM), so the interval only has to catch a process before it ends.
    """

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks: dict[int, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def largest(self) -> float:
        """The highest mark of any watched process so far, in MiB; 0 where none was seen."""
        return round(max(list(self.peaks.values()), default=0.0), 1)

    def _watch(self) -> None:
        while not self._stop.is_set():
            for pid in descendants(os.getpid()):
                found = peak_mib(pid, self._wanted)
                if found is not None:
                    self.peaks[pid] = max(found, self.peaks.get(pid, 0.0))
            self._stop.wait(INTERVAL_S)


def descendants(root: int) -> list[int]:
    """All processes below ``root``, children of children included."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def peak_mib(pid: int, wanted: Callable[[str], bool]) -> float | None:
    """VmHWM of a process whose command line is ``wanted``, in MiB; None for others and for one that ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if not wanted(command):
            return None
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        return None
    return None
