"""The job book: which jobs work on this cluster, who waits for whom, and how far each one is.

Every job has one small file below ``PLINTH_HOME/run/jobs`` from its start to its end. Its process writes it; a reader
moves the file of a process that is gone to the history (the last twenty). ``plinth status`` shows both.

Admission: heavy jobs (whatever takes all CPUs it is given) have ``cluster.heavy_jobs`` places, and queue for them in
the order in which they came. Light ones run beside them at once, and heavy ones leave a CPU to them
(``data_jobs.tasks``). A queue rather than a fair share: two index builds side by side take as long as one after the
other and twice the memory, and a queue can tell everybody a position. It starves nobody, since nobody overtakes. A
place is taken where a job joins the cluster (``cluster.connect.connected``), so that what is refused is refused at
once, and is kept to the job's end. It belongs to a process: whoever dies gives it back.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cluster.core.config import available_cpus
from cluster.core.entry import check_interrupted, config_from
from cluster.core.home import Home
from cluster.core.sections.cluster import ClusterSection
from cluster.core.storage.files import storage_errors
from cluster.core.telemetry import log_event
from cluster.processes import born

State = Literal["running", "waiting", "done", "failed", "interrupted", "lost"]
LIGHT = ("data synth", "data tokens", "train tokenizer", "train gate")  # short, or one thread: they never wait
HISTORY = 20
LOOK_S = 0.5  # how often one that waits looks whether it may go on
WRITE_S = 1.0  # how often progress is written, at most
BEAT_S = 30.0  # how often at least; a job of another machine that was silent for three beats is gone
CPUS_PER_PLACE = 4
SECRET = re.compile(r"(^|[-_.])(key|token|secret|password|passwd|credentials?|cookie)$", re.IGNORECASE)


@dataclass(frozen=True)
class Booked:
    """One job, as it is in its file.

    Attributes:
        id: sorts by the time of its start.
        title: its verb (``index build``). subject: what it works on, "" where nothing was named.
        arguments: of its command line, secrets replaced.
        heavy: it needs a place. holds: it has one.
        pid, born, host: its process, with the start time that tells it from a later one of the same number.
        via: "" for a terminal, "ray job" where it was submitted.
        started, queued, stage_since, updated, ended: seconds since the epoch, 0 for never.
        waiting: for what it waits, "" where it does not.
        done, total, unit: of its stage; a total of None is unknown.
        note: of one that ended: why.
    """

    id: str
    title: str
    subject: str = ""
    arguments: tuple[str, ...] = ()
    heavy: bool = True
    holds: bool = False
    pid: int = 0
    born: int = 0
    host: str = ""
    via: str = ""
    started: float = 0.0
    queued: float = 0.0
    state: State = "running"
    waiting: str = ""
    stage: str = ""
    stage_since: float = 0.0
    done: int = 0
    total: int | None = None
    unit: str = ""
    counts: dict[str, float] = field(default_factory=dict)
    updated: float = 0.0
    ended: float = 0.0
    note: str = ""

    @property
    def name(self) -> str:
        """The verb and what it works on, as people are shown it."""
        return f"{self.title} of {self.subject}" if self.subject else self.title

    @property
    def rate(self) -> float:
        """Units of the stage per second, so far."""
        return self.done / max(self.updated - self.stage_since, 0.001) if self.done and self.stage_since else 0.0

    def to_dict(self) -> dict[str, Any]:
        """What its file holds; the rate is there for readers and ignored by ``from_dict``."""
        return {**dataclasses.asdict(self), "rate": round(self.rate, 2)}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Booked:
        """A job from its file; fields of another release are left out."""
        known = {f.name: row[f.name] for f in dataclasses.fields(cls) if f.name in row}
        return cls(**{**known, "arguments": tuple(known.get("arguments", ()))})


@dataclass(frozen=True)
class Wait:
    """Why a job may not run now: its position in the queue (1 is next), and who holds the places."""

    position: int
    held_by: tuple[Booked, ...]

    def text(self, now: float) -> str:
        """Why it waits, for people; ``now`` is in seconds since the epoch."""
        holders = ", ".join(f"{job.name} (started {ago(now - job.started)} ago)" for job in self.held_by)
        return f"waiting for a place, {ordinal(self.position)} in the queue: held by {holders or 'those before it'}"


def waits(job: Booked, jobs: Sequence[Booked], places: int) -> Wait | None:
    """What a heavy job that queues waits for; None: it may run.

    Args:
        jobs: all that are alive, with this one or without it.
        places: how many heavy jobs may run at once.
    """
    others = [other for other in jobs if other.id != job.id and other.heavy]
    holders = tuple(sorted((o for o in others if o.holds), key=lambda o: o.started))
    ahead = sum(o.state == "waiting" and (o.queued, o.id) < (job.queued, job.id) for o in others)
    return None if ahead < places - len(holders) else Wait(ahead + 1, holders)


def places_of(section: ClusterSection) -> int:
    """How many heavy jobs run at once: as configured, else one for every four CPUs, at least one."""
    return section.heavy_jobs or max(1, (section.cpus or available_cpus()) // CPUS_PER_PLACE)


class Book:
    """The files of the jobs of one PLINTH_HOME."""

    def __init__(self, home: Home) -> None:
        home.folder("run")
        self.folder = home.folder("run/jobs")

    def jobs(self) -> list[Booked]:
        """Those alive, oldest first. Files of the dead go to the history."""
        with self.locked():
            return self._living()

    def finished(self) -> list[Booked]:
        """The last that ended, newest first."""
        try:
            return [Booked.from_dict(row) for row in json.loads((self.folder / "finished.json").read_text())]
        except FileNotFoundError:
            return []

    def write(self, job: Booked) -> None:
        """Put a job's file in place, whole; an EnvironmentFaultError where the disk does not take it."""
        _put(self._path(job), job.to_dict())

    def finish(self, job: Booked) -> None:
        """Move a job to the history."""
        with self.locked():
            self._finish(job)

    def admit(self, job: Booked, places: int) -> Booked:
        """The job with a place, or with what it waits for; one job at a time decides."""
        with self.locked():
            wait = waits(job, self._living(), places)
            if wait is None:
                job = replace(job, state="running", holds=True, waiting="", updated=time.time())
            else:
                job = replace(job, state="waiting", waiting=wait.text(time.time()), updated=time.time())
            self.write(job)
            return job

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process reads or moves jobs within the block, as long as it locks too. Not reentrant."""
        with storage_errors(str(self.folder)), open(self.folder / "lock", "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _living(self) -> list[Booked]:
        found = []
        for path in sorted(self.folder.glob("job-*.json")):
            try:
                job = Booked.from_dict(json.loads(path.read_text()))
            except FileNotFoundError:  # it ended meanwhile
                continue
            if _alive(job):
                found.append(job)
            else:
                log_event("cluster", "job_lost", job=job.id, title=job.title, pid=job.pid)
                self._finish(replace(job, state="lost", ended=job.updated, note="its process ended without a word"))
        return found

    def _finish(self, job: Booked) -> None:
        ended = replace(job, holds=False, waiting="")
        _put(self.folder / "finished.json", [j.to_dict() for j in [ended, *self.finished()][:HISTORY]])
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: Booked) -> Path:
        return self.folder / f"job-{job.id}.json"


class Entry:
    """This process's job in the book; a ``Progress``, whose steps a thread writes down about every second."""

    def __init__(self, book: Book, job: Booked, places: int, tell: Callable[[str], None]) -> None:
        self._book, self._job, self._places, self._tell = book, job, places, tell
        self._lock, self._ended, self._dirty = threading.Lock(), threading.Event(), False
        book.write(job)
        self._thread = threading.Thread(target=self._write_down, name="job-book", daemon=True)
        self._thread.start()

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._change(stage=name, stage_since=time.time(), done=0, total=total, unit=unit, waiting="")

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._job = replace(self._job, done=self._job.done + amount)
            self._dirty = True

    def counts(self, **counts: float) -> None:
        self._change(counts=counts)

    def waits(self, what: str) -> None:
        self._change(waiting=what)

    def take_place(self) -> None:
        """Wait for this job's turn, saying for what; returns at once where it has a place or needs none.

        Raises:
            KeyboardInterrupt: it was interrupted, and left the queue with its entry.
        """
        if not self._job.heavy or self._job.holds:
            return
        self._change(queued=time.time())
        told = ""
        while True:
            check_interrupted()
            with self._lock:
                self._job = self._book.admit(self._job, self._places)
            if self._job.holds:
                return
            if (said := re.sub(r" \(started .*? ago\)", "", self._job.waiting)) != told:
                self._tell(self._job.waiting)
                told = said
            time.sleep(LOOK_S)

    def end(self, state: State, note: str = "") -> None:
        """Stop writing and move the job to the history with its final state; ``note`` says why it ended."""
        self._ended.set()
        self._thread.join()
        self._book.finish(replace(self._job, state=state, note=note, ended=time.time(), updated=time.time()))

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._job = replace(self._job, **changes)
            self._dirty = True

    def _write_down(self) -> None:
        while not self._ended.wait(WRITE_S):
            with self._lock:
                if self._dirty or time.time() - self._job.updated > BEAT_S:
                    self._job, self._dirty = replace(self._job, updated=time.time()), False
                    with contextlib.suppress(OSError):  # a full disk: the job itself says so where it matters
                        self._book.write(self._job)


_entries: list[Entry] = []  # the job this process is, if it is one


@contextlib.contextmanager
def entered(
    module: str, job: str, args: argparse.Namespace, arguments: Sequence[str],
    tell: Callable[[str], None] = lambda text: print(f"plinth: {text}", file=sys.stderr, flush=True),
) -> Iterator[Entry]:  # fmt: skip
    """This process is a job, in the book for the length of the block.

    Args:
        module, job: of ``python -m MODULE JOB``.
        args: parsed; for the configuration, and for what the job works on.
        arguments: as they were typed.
        tell: shown what the job waits for, when that changes.
    """
    home, title, now = Home.from_env(), title_of(module, job), time.time()
    # The driver of a submitted job is told so by Ray.
    via = "ray job" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else ""
    made = Booked(
        id=f"{int(now * 1000)}-{secrets.token_hex(3)}", title=title, subject=subject_of(args),
        arguments=tuple(without_secrets(arguments)), heavy=title not in LIGHT, pid=os.getpid(), born=born(os.getpid()),
        host=socket.gethostname(), via=via, started=now, updated=now,
    )  # fmt: skip
    entry = Entry(Book(home), made, places_of(config_from(args, home).cluster), tell)
    _entries.append(entry)
    state: State = "failed"
    note = ""
    try:
        yield entry
        state = "done"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    except Exception as error:
        note = str(error)[:500]
        raise
    finally:
        _entries.remove(entry)
        entry.end(state, note)


def take_place() -> None:
    """Wait until the job that this process is may join the cluster; a process that is no job may at once."""
    for entry in _entries:
        entry.take_place()


def title_of(module: str, job: str) -> str:
    """The verb as it is typed after ``plinth``, for ``python -m MODULE JOB``."""
    if (module, job) == ("data_jobs", "index"):
        return "index build"
    return f"{module.removesuffix('_jobs')} {job}".strip()


def subject_of(args: argparse.Namespace) -> str:
    """What a job's arguments say it works on: a name, a dataset without its version, the last part of a source."""
    for name in ("name", "dataset", "base", "source"):
        if value := getattr(args, name, None):
            (shown,) = without_secrets([str(value)])
            return shown.split("?")[0].rstrip("/").rpartition("/")[2].split("@")[0][:60]
    return ""


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """A command line that may be shown: no user or query of an address, no value of what is named like a secret."""
    shown: list[str] = []
    before = ""
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if before.startswith("-") and "=" not in before and SECRET.search(before):
            shown.append("***")
        elif equals and SECRET.search(name):
            shown.append(f"{name}=***")
        else:
            shown.append(re.sub(r"://[^/@\s]*@", "://***@", re.sub(r"(://[^?\s]*)\?\S*", r"\1?***", argument)))
        before = argument
    return shown


def ago(seconds: float) -> str:
    """A duration in its largest whole unit: ``3 min``, ``2 h``, ``0 s`` for a clock that went back."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def ordinal(number: int) -> str:
    """A position in words of English: ``1st``, ``2nd``, ``11th``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _alive(job: Booked) -> bool:
    if job.host == socket.gethostname():
        return bool(job.born) and born(job.pid) == job.born
    return time.time() - job.updated < 3 * BEAT_S


def _put(path: Path, value: Any) -> None:
    """Write a file whole or not at all, for its owner only. Not synced: after a power cut no job runs anyway."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with storage_errors(str(path)):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            json.dump(value, handle)
        os.replace(temporary, path)
