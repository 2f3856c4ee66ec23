"""What runs and what listens on this machine, read from /proc (Linux).

Every process that ``plinth up`` starts inherits one environment variable, ``PLINTH_INSTANCE``. That mark, not a process
name, decides what belongs to an instance, together with the children of what carries it: so ``plinth down`` ends what
it started, nothing else, and leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import EnvironmentFaultError
from cluster.core.memory import MARK as MARK

LISTEN = "0A"
RESERVED = range(20000, 30000)  # for free_ports


@dataclass(frozen=True)
class Process:
    """A live process: pid and command line (cut to 120 characters)."""

    pid: int
    command: str


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket: textual address, port, and the pid that holds it."""

    address: str
    port: int
    pid: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it: an IPv4 or IPv6 loopback address."""
        return self.address.startswith("127.") or self.address in ("::1",) or self.address.startswith("::ffff:127.")


def marked(instance_id: str) -> list[Process]:
    """All live processes that carry this instance's mark, and what these started; the caller excepted.

    A process that gives itself a title writes over its environment, so that its mark is gone: its parent's holds.
    """
    mark = f"{MARK}={instance_id}".encode()
    pids = [pid for pid in _pids() if not is_zombie(pid)]
    children: dict[int, list[int]] = {}
    for pid in pids:
        children.setdefault(parent(pid), []).append(pid)
    found: dict[int, None] = {}
    queue = [pid for pid in pids if mark in _read(pid, "environ").split(b"\0")]
    while queue:
        pid = queue.pop()
        if pid not in found:
            found[pid] = None
            queue += children.get(pid, [])
    return [Process(pid, command_of(pid)) for pid in sorted(found) if pid != os.getpid()]


def command_of(pid: int) -> str:
    """The command line of a process, cut to 120 characters; empty where it is gone."""
    return " ".join(words_of(pid)).strip()[:120]


def words_of(pid: int) -> list[str]:
    """The whole command line of a process, or the title it gave itself as one word; empty where it is gone."""
    return _read(pid, "cmdline").rstrip(b"\0").decode(errors="replace").split("\0")


def alive(pid: int) -> bool:
    """Whether there is such a process and it still runs; a zombie does not."""
    return Path(f"/proc/{pid}").exists() and not is_zombie(pid)


def born(pid: int) -> int:
    """When a live process was started (clock ticks since boot), which tells it from a later one; 0: there is none."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] != b"Z" else 0


def parent(pid: int) -> int:
    """The id of the process that a live one is a child of; 0: there is none."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be reaped, or is gone altogether."""
    stat = _read(pid, "stat")
    return stat.rpartition(b")")[2].split()[:1] in ([b"Z"], [])


def terminate(pids: Iterable[int], grace_s: float) -> list[int]:
    """SIGTERM, wait up to ``grace_s`` seconds, SIGKILL the rest; returns pids that had to be killed."""
    waiting = list(pids)
    _signal(waiting, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (waiting := [pid for pid in waiting if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(waiting, signal.SIGKILL)
    return waiting


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def listeners(pids: Iterable[int]) -> list[Listener]:
    """TCP sockets (v4 and v6) these processes listen on."""
    by_inode = {}
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                address, port = fields[1].rsplit(":", 1)
                by_inode[fields[9]] = (_address(family, address), int(port, 16))
    found = []
    for pid in pids:
        for inode in _sockets(pid):
            if inode in by_inode:
                found.append(Listener(*by_inode[inode], pid))
    return sorted(set(found), key=lambda item: (item.port, item.pid))


def port_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could bind this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


WORKER_PORTS = range(10_002, 20_000)  # ray start --min-worker-port, --max-worker-port
REPLICA_PORTS = range(30_000, 31_001)  # Serve's replicas behind HAProxy


def free_ports(count: int, without: Collection[int] = ()) -> list[int]:
    """Ports nobody uses right now, all different and none of ``without``, which somebody is about to use.

    They may be bound minutes later. So not one of those the kernel gives to outgoing connections (32768 and above by
    default), to Ray's workers (WORKER_PORTS) or to Serve's replicas (REPLICA_PORTS): it would be gone by then.

    Raises:
        EnvironmentFaultError: there are not so many.
    """
    found: list[int] = []
    candidates = [port for port in RESERVED if port not in without]
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        if len(found) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    if len(found) < count:
        raise EnvironmentFaultError(f"fewer than {count} ports from {RESERVED[0]} to {RESERVED[-1]} are free")
    return found


def other_rays(instance_id: str | None) -> list[Process]:
    """Ray head services (gcs_server) on this machine that are not the instance's."""
    own = {process.pid for process in marked(instance_id)} if instance_id else set()
    return [
        Process(pid, command_of(pid))
        for pid in _pids()
        if pid not in own and _read(pid, "comm").strip() == b"gcs_server" and not is_zombie(pid)
    ]


def available_memory_mb() -> int:
    """Memory new processes can get without swapping (MemAvailable, and the cgroup's limit where there is one), MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) // 1024
            break
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        available = min(available, (int(text) - int(used.read_text())) >> 20)
    return available


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone meanwhile, or another user's
        return b""


def _sockets(pid: int) -> list[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    inodes = []
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.append(target[8:-1])
    return inodes


def _address(family: int, text: str) -> str:
    """/proc/net prints addresses as 32-bit words in host order."""
    raw = b"".join(int(text[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(text), 8))
    return socket.inet_ntop(family, raw)
