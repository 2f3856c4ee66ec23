"""Five hundred calls at once from five processes, while ledger and gateways are killed: never more than the limit, and
in the end exactly it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.ledger.database import Database
from actors.ledger.usage import usage_rows

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[3]
FIT = 700  # requests of the day's budget; 1,500 and more are made
KILLED = 2  # gateways

# The ledger: one process, one database file, messages over a socket in a folder.
LEDGER = """
import sys
from multiprocessing.connection import Listener
from threading import Thread
from actors.ledger.database import Database
from actors.ledger.ledger import Ledger
path, url = sys.argv[1:]
ledger = Ledger(Database(url), 600.0)
def serve(connection):
    try:
        while True:
            connection.send(ledger.exchange(connection.recv()))
    except (EOFError, OSError):
        pass
with Listener(path, "AF_UNIX", backlog=64) as listener:
    print("stands", flush=True)
    while True:
        Thread(target=serve, args=(listener.accept(),), daemon=True).start()
"""

# A gateway: a hundred requests at a time. A line in its file is a request whose client got the whole answer.
GATEWAY = """
import asyncio, os, sys, threading
from datetime import UTC, datetime
from multiprocessing.connection import Client
from pathlib import Path
from actors.ledger.amounts import Amount, Need, Used
from actors.ledger.wallet import RefusedError, Wallet
from cluster.core.errors import EnvironmentFaultError
from cluster.core.identity import Limits, Principal
from cluster.core.sections.ledger import LedgerSection
path, spool, served, rounds, fit = sys.argv[1:]
WHO = Principal("ann", "lab", limits=Limits(tokens_per_day=100 * int(fit)))

class Remote:
    connection, busy = None, threading.Lock()
    async def exchange(self, message):
        return await asyncio.to_thread(self._exchange, message)
    def _exchange(self, message):
        try:
            with self.busy:  # an answer that nobody waits for any more is still heard
                self.connection = self.connection or Client(path, "AF_UNIX")
                self.connection.send(message)
                return self.connection.recv()
        except (EOFError, OSError) as error:
            self.connection = None
            raise EnvironmentFaultError("the ledger is not there") from error

async def request(wallet, done, last):
    need = Need(Amount(1, 200, 0), Amount(1, 100, 0))  # uses half of what it reserves
    try:
        hold = await wallet.reserve(WHO, need)
    except RefusedError as error:
        return error.refusal.gone
    except EnvironmentFaultError:
        return False
    await asyncio.sleep(0.02)
    wallet.settle(hold, Used(datetime.now(UTC).date().isoformat(), "ann", "lab", "quote", 1, 60, 40, 0))
    os.write(done, b"x")
    return False

async def main():
    wallet = Wallet(Remote(), LedgerSection(wait_s=20, report_s=0.05, lease_s=2), Path(spool))
    done = os.open(served, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    if int(rounds):
        for _ in range(int(rounds)):
            await asyncio.gather(*(request(wallet, done, False) for _ in range(100)))
    else:
        while not await request(wallet, done, True):  # until nothing is left, and nothing can come back
            pass
    await wallet.stop()
asyncio.run(main())
"""


class Scene:
    """Processes of one test, and what their clients got."""

    def __init__(self, folder: Path, url: str, home: Path) -> None:
        self.folder, self.url, self.gateways = folder, url, 0
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "PLINTH_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self.running: list[subprocess.Popen[str]] = []

    def start_ledger(self) -> subprocess.Popen[str]:
        (self.folder / "socket").unlink(missing_ok=True)
        ledger = self._start(LEDGER, str(self.folder / "socket"), self.url)
        assert ledger.stdout is not None
        assert ledger.stdout.readline() == "stands\n"
        return ledger

    def start_gateway(self, rounds: int) -> subprocess.Popen[str]:
        self.gateways += 1
        served = self.folder / f"served-{self.gateways}"
        return self._start(
            GATEWAY, str(self.folder / "socket"), str(self.folder / "spool"), str(served), str(rounds), str(FIT)
        )

    def served(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("served-*"))

    def _start(self, program: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *words]
        made = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, text=True)
        self.running.append(made)
        return made


@contextmanager
def scene(folder: Path, url: str, home: Path) -> Iterator[Scene]:
    made = Scene(folder, url, home)
    try:
        yield made
    finally:
        for process in made.running:
            process.kill()
            process.wait(30)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def killed_and_still_exact(folder: Path, url: str, home: Path) -> None:
    with scene(folder, url, home) as play:
        ledger = play.start_ledger()
        gateways = [play.start_gateway(rounds=3) for _ in range(5)]
        for enough in (60, 150):
            until(lambda enough=enough: play.served() >= enough)  # type: ignore[misc]
            ledger.send_signal(signal.SIGKILL)
            ledger.wait(30)
            ledger = play.start_ledger()
        until(lambda: play.served() >= 250)
        for gateway in gateways[:KILLED]:
            gateway.send_signal(signal.SIGKILL)
        gateways += [play.start_gateway(rounds=3)]
        for gateway in gateways[KILLED:]:
            assert gateway.wait(240) == 0
        assert play.served() <= FIT, "overspent"
        last = play.start_gateway(rounds=0)  # reports for the dead, and uses what came back of theirs
        assert last.wait(240) == 0
        # A killed gateway may have booked a request and not told its client any more.
        assert FIT - KILLED <= play.served() <= FIT, "nothing else is lost to those that died, and nothing is free"
        rows = usage_rows(Database(url))
        assert sum(row.requests for row in rows) == FIT
        assert sum(row.prompt_tokens + row.completion_tokens for row in rows) == 100 * FIT


def test_in_a_file(tmp_path: Path, home: Path) -> None:
    killed_and_still_exact(tmp_path, Database.of(home).url, home)
