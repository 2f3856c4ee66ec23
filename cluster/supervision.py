"""Watching the head that ``plinth up`` started, and putting it up again when one of its processes dies.

``ray start --block`` ends when a child of its dies, a raylet ends with its agents, and nobody starts them again: one
kill -9 below the head ends the service for good. So one more process watches them. It runs no Ray: it looks at process
ids once a second and lets ``plinth up`` do the work anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cluster.core.errors import ExitCode
from cluster.core.home import Home, write_private
from cluster.core.storage import utc_now
from cluster.core.telemetry import log_event
from cluster.local_head import Instance, recorded
from cluster.processes import born, parent, terminate, words_of
from cluster.serve_mode import inherited_environment

CHECK_S = 1.0
DELAYS_S = (0.0, 5.0, 15.0, 30.0, 60.0)  # before the first restart, the second, ...
LIMIT = 8  # restarts within WINDOW_S; after them it gives up
WINDOW_S = 1800.0
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # children of the raylet without which it ends
NEEDED = ("gcs_server", "raylet", "dashboard", "log_monitor", *AGENTS)  # what a head that is up consists of


@dataclass(frozen=True)
class Part:
    """A process that the head cannot do without. ``born`` tells it from a later one of the same id."""

    name: str
    pid: int
    born: int

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self.born != 0 and born(self.pid) == self.born


@dataclass
class Backoff:
    """How long to wait before the next restart, and when to give up."""

    limit: int = LIMIT
    window_s: float = WINDOW_S
    _at: list[float] = field(default_factory=list)

    def next(self, now: float) -> float | None:
        """Seconds to wait before a restart that is due now; None: there were too many.

        Args:
            now: seconds of a clock that does not go back.
        """
        self._at = [then for then in self._at if now - then < self.window_s]
        if len(self._at) >= self.limit:
            return None
        self._at.append(now)
        return DELAYS_S[min(len(self._at), len(DELAYS_S)) - 1]


@dataclass(frozen=True)
class Watch:
    """What is known of the watching process: itself, and what it did. Kept in ``run/supervisor.json``."""

    pid: int = 0
    born: int = 0
    restarts: int = 0
    last: str = ""
    """Why and when the head was put up again the last time; empty where it never was."""
    gave_up: bool = False

    @property
    def lives(self) -> bool:
        """Whether somebody watches now."""
        return self.pid != 0 and self.born != 0 and born(self.pid) == self.born

    @classmethod
    def read(cls, home: Home) -> Watch:
        """What was written last; an empty one where nothing was, or what is there cannot be read."""
        try:
            return cls(**json.loads((home.root / "run" / "supervisor.json").read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, home: Home) -> None:
        """Keep it."""
        write_private(home.run / "supervisor.json", json.dumps(asdict(self)))

    def to_dict(self) -> dict[str, Any]:
        """For ``plinth status --json``."""
        return {"watched": self.lives, "restarts": self.restarts, "last": self.last, "gave_up": self.gave_up}


def parts_of(instance: Instance) -> list[Part]:
    """The head and the processes that it cannot do without, as they run now."""
    pids = [process.pid for process in instance.processes()]
    names, parents = {pid: _name(words_of(pid)) for pid in pids}, {pid: parent(pid) for pid in pids}
    below = [pid for pid in pids if parents[pid] == instance.pid]
    raylets = {pid for pid in below if names[pid] == "raylet"}
    agents = [pid for pid in pids if parents[pid] in raylets and names[pid] in AGENTS]
    head = Part("head", instance.pid, born(instance.pid))
    return [head, *(Part(names[pid], pid, born(pid)) for pid in [*below, *agents])]


def _name(words: list[str]) -> str:
    """What a process of the head is called: its title, its program, or the script or module that Python runs."""
    script = next((w for w in words if w.startswith("ray.") or (w.endswith(".py") and w[0] != "-")), words[0])
    return script.strip().rpartition("/")[2].removesuffix(".py")


def missing_part(parts: list[Part]) -> str:
    """The name of the first that does not run any more, or was not there to begin with; empty where all do."""
    names = {part.name for part in parts}
    gone = (part.name for part in parts if not part.lives)
    return next(gone, "") or next((name for name in NEEDED if name not in names), "")


def watch(
    home: Home,
    restart: Callable[[], int],
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Put the head up again whenever a process of it dies, until somebody ends this process (``plinth down`` does).

    Args:
        restart: puts everything up again; its exit code.
        clock, wait: seconds that do not go back, and sleeping.

    Returns:
        0 where somebody watches already, or PLINTH_HOME is gone; 5 where the head died too often.
    """
    with open(home.run / "supervisor.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ExitCode.DONE
        before, backoff = Watch.read(home), Backoff()
        me = Watch(os.getpid(), born(os.getpid()), before.restarts, before.last)
        me.write(home)
        failed = ""  # a restart that fails is tried again like a death
        while dead := failed or first_death(home, wait):
            delay = backoff.next(clock())
            me = replace(me, last=f"{dead} {'failed' if failed else 'died'}, {utc_now()}")
            if delay is None:
                replace(me, gave_up=True).write(home)
                log_event("cluster", "supervisor_gave_up", died=dead, restarts=backoff.limit, window_s=backoff.window_s)
                return ExitCode.ENVIRONMENT
            me = replace(me, restarts=me.restarts + 1)
            me.write(home)  # before the restart, so that what it starts can read it
            log_event("cluster", "head_died", died=dead, restart_in_s=delay)
            wait(delay)
            code = restart()
            failed = "the restart" if code else ""
            log_event("cluster", "head_restarted", died=dead, exit_code=code, restarts=me.restarts)
    return ExitCode.DONE


def first_death(home: Home, wait: Callable[[float], None] = time.sleep) -> str:
    """Wait for a process of the head to die; its name. Nothing there to wait for counts as dead, too.

    An instance that somebody else put up meanwhile is waited for in its place. Empty where PLINTH_HOME is gone.
    """
    while home.root.exists():
        instance = recorded(home)
        parts = parts_of(instance) if instance is not None and instance.pid else []
        if not parts:
            return "head"
        while recorded(home) == instance:
            if dead := missing_part(parts):
                return dead
            wait(CHECK_S)
    return ""


def start_watching(home: Home, environ: Mapping[str, str]) -> None:
    """Have a process of its own watch, unless one does."""
    if Watch.read(home).lives:
        return
    with open(home.logs / "supervisor.log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "cluster.cli.main", "supervise"],
            env=inherited_environment(home, environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd=str(home.root),
        )  # fmt: skip


def restart_command() -> list[str]:
    """Puts up again what was up last, with the configuration it had."""
    return [sys.executable, "-m", "cluster.cli.main", "supervise", "--restart"]


def stop_watching(home: Home) -> None:
    """End the process that watches, and what it is starting just now. Safe where nobody does.

    Raises:
        EnvironmentFaultError: it would not end.
    """
    found = Watch.read(home)
    if not found.lives or found.pid == os.getpid():
        return
    with suppress(ProcessLookupError):
        if os.getpgid(found.pid) == found.pid:  # a session of its own: the restart that it waits for is in it
            os.killpg(found.pid, signal.SIGTERM)
    terminate([found.pid], grace_s=5)
    (home.root / "run" / "supervisor.json").unlink(missing_ok=True)


def unit(home: Home, environ: Mapping[str, str]) -> str:
    """A systemd unit (of the user's own manager) that does the watching, from the machine's start on."""
    kept = {"PLINTH_HOME": str(home.root), "PLINTH_STORE": home.store_uri, "PATH": environ.get("PATH", os.defpath)}
    lines = "\n".join(f'Environment="{name}={value}"' for name, value in kept.items())
    return f"""\
[Unit]
Description=Plinth, put up and kept up
After=network.target

[Service]
{lines}
ExecStart={shlex.quote(sys.executable)} -m cluster.cli.main supervise
ExecStop={shlex.quote(sys.executable)} -m cluster.cli.main down
WorkingDirectory={home.root}
Restart=on-failure
# 130: `plinth down` ended it
SuccessExitStatus=130
RestartSec=30
TimeoutStopSec=60

[Install]
WantedBy=default.target
"""
