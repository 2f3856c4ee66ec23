"""What a gateway notes of each request that ended, in files, until the ledger has it: a killed process leaves its notes
to the next one on this machine.

A folder belongs to one process, which holds the lock in it. Rows go into a file for each report; a note is one write to
the page cache, which survives the process, not the machine. A machine that is lost with its notes is the ledger's
business: what it was lent then counts as used.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from actors.ledger.amounts import Report, Used
from cluster.core.telemetry import log_event

LOCK, ROWS = "lock", ".rows"


class Spool:
    """The notes of this process, below ``folder`` (made where it is not there)."""

    def __init__(self, folder: Path) -> None:
        self.holder = secrets.token_hex(8)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder / f".{self.holder}"  # under this name nobody takes it for one that was left behind
        made.mkdir(mode=0o700)
        self._lock = os.open(made / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._folder = made.rename(folder / self.holder)
        self._number, self._file = -1, -1

    def note(self, number: int, row: Used) -> None:
        """Keep a row of a report that is still to be sent. A disk that is full costs the row only if this process is
        killed before it reported."""
        try:
            if number != self._number:
                self._shut()
                self._file = os.open(self._path(number), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
                self._number = number
            os.write(self._file, json.dumps(astuple(row)).encode() + b"\n")
        except OSError as error:
            log_event("ledger", "row_not_noted", error=str(error))

    def forget(self, number: int) -> None:
        """The ledger has this report."""
        if number == self._number:
            self._shut()
        with suppress(OSError):
            self._path(number).unlink()

    def close(self) -> None:
        """Let go; what was not reported stays for the next process."""
        self._shut()
        if not any(self._folder.glob(f"*{ROWS}")):
            shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:09d}{ROWS}"

    def _shut(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._number, self._file = -1, -1


@dataclass(frozen=True)
class Left:
    """What a process that is gone had noted."""

    holder: str
    reports: tuple[Report, ...]
    folder: Path

    def remove(self) -> None:
        """The ledger has it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def left_behind(folder: Path) -> Iterator[Left]:
    """The notes of every process that is gone, one after the other; nobody else gets the same one meanwhile."""
    for path in sorted(folder.glob("[!.]*")):
        try:
            lock = os.open(path / LOCK, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Left(path.name, tuple(_reports(path)), path)
        except BlockingIOError:
            continue  # it lives
        finally:
            os.close(lock)


def _reports(folder: Path) -> Iterator[Report]:
    for path in sorted(folder.glob(f"*{ROWS}")):
        rows = []
        for line in path.read_text(errors="replace").splitlines():
            with suppress(ValueError, TypeError):  # the process was killed while it wrote the last one
                rows.append(Used(*json.loads(line)))
        yield Report(int(path.stem), tuple(rows))
