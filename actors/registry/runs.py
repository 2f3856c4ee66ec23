"""Training runs while they run and afterwards: ``training/<run id>/`` in the store. Needs neither ray nor mlflow.

    run.json        what runs: kind, parameters, state, times, host, process
    metrics.jsonl   one line per logged step, appended as training goes on
    cancel.json     somebody asked it to stop (``plinth runs cancel``); the loop sees it at its next step

A run that was killed is continued under the same id: its earlier lines stay, and where it goes back to a checkpoint
the lines after that step are superseded (``read_metrics`` drops them).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import posixpath
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from actors.registry.machine import hardware_here, package_versions
from cluster.core.code import code_commit
from cluster.core.errors import BadInputError, UsageError
from cluster.core.storage import Store, check_name, storage_errors, utc_now

FOLDER = "training"
RunState = Literal["running", "finished", "failed", "cancelled", "interrupted"]
OTHER_HOST_SILENT_S = 3600.0  # a run of another machine that logged nothing for this long counts as interrupted
REMOTE_FLUSH_S = 5.0  # object stores cannot append: the whole file is put again, at most this often
REMOTE_LOOK_S = 2.0  # ... and asking whether a marker exists is a request


@dataclass(frozen=True)
class Run:
    """One training run. ``state`` is ``interrupted`` when its process is gone without having said how it ended.

    ``inputs`` are the artefacts it was made from, by role, each ``NAME@VERSION`` (a version is a hash of content).
    ``versions`` are those of Python and of the packages that decide a result, ``hardware`` what it ran on.
    """

    id: str
    kind: str
    state: RunState
    params: dict[str, Any] = field(default_factory=dict)
    started_at: str = ""
    ended_at: str = ""
    error: str = ""
    attempts: int = 1
    host: str = ""
    pid: int = 0
    process_start: str = ""
    commit: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What ``run.json`` holds, field by field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Run:
        """The run in a ``run.json``. Fields unknown to this code are ignored, absent ones take their defaults."""
        return cls(**{f.name: row[f.name] for f in dataclasses.fields(cls) if f.name in row})


class RunLog:
    """Writes one run. To be held by one process (rank 0); a second attempt takes over the same id.

    Args:
        store: where it is written.
        run_id: a usable name; the same for a resumed run.
        kind: ``pretrain``, ``finetune``, ...
        params: what ``runs show`` and ``runs compare`` list; plain JSON values.
        inputs: the artefacts it is made from, by role.

    Raises:
        UsageError: ``run_id`` is no usable name.
        EnvironmentFaultError: the store cannot be written (disk full).
    """

    def __init__(
        self, store: Store, run_id: str, kind: str, params: dict[str, Any], inputs: dict[str, str] | None = None
    ) -> None:
        self.store, self.id = store, check_name(run_id)
        earlier = _stored(store, run_id)
        if earlier is not None and earlier.state == "cancelled":
            _remove(store, _path(store, run_id, "cancel.json"))  # it was obeyed; this is a new start
        self._run = Run(
            id=run_id, kind=kind, state="running", params=params,
            started_at=earlier.started_at if earlier else utc_now(), attempts=earlier.attempts + 1 if earlier else 1,
            host=socket.gethostname(), pid=os.getpid(), process_start=_process_start(os.getpid()),
            commit=code_commit(), inputs=inputs or {}, versions=package_versions(), hardware=hardware_here(),
        )  # fmt: skip
        self._metrics = _path(store, run_id, "metrics.jsonl")
        self._lines: list[str] = []
        self._flushed = self._looked = 0.0
        self._cancelled = False
        if not store.local and store.exists(self._metrics):
            self._lines = store.read(self._metrics).decode().splitlines()
        self._save()

    def log(self, step: int, **values: float | str | None) -> None:
        """Append one line: ``step``, the time, and what was measured there (numbers that are not finite become null).

        Values logged for the same step in a row are one point.
        """
        row = {"step": step, "at": utc_now(), **{name: _finite(value) for name, value in values.items()}}
        line = json.dumps(row, ensure_ascii=True)
        if self.store.local:
            # A leading newline ends a line that a kill may have left half written.
            with storage_errors(self._metrics), open(self._metrics, "ab") as handle:
                handle.write(f"\n{line}".encode())
            return
        self._lines.append(line)
        if time.monotonic() - self._flushed > REMOTE_FLUSH_S:
            self._flush()

    def note(self, **params: Any) -> None:
        """Add to what ``runs show`` lists of this run."""
        self._run = dataclasses.replace(self._run, params={**self._run.params, **params})
        self._save()

    def cancelled(self) -> bool:
        """Whether somebody asked this run to stop. Cheap enough to ask at every step (20 us on a local store)."""
        if not self._cancelled and (self.store.local or time.monotonic() - self._looked > REMOTE_LOOK_S):
            self._looked = time.monotonic()
            self._cancelled = self.store.exists(_path(self.store, self.id, "cancel.json"))
        return self._cancelled

    def finish(self, state: Literal["finished", "failed", "cancelled"], error: str = "") -> None:
        """Say how the run ended."""
        if not self.store.local:
            self._flush()
        self._run = dataclasses.replace(self._run, state=state, error=error, ended_at=utc_now())
        self._save()

    def _flush(self) -> None:
        self.store.write(self._metrics, "\n".join(self._lines).encode())
        self._flushed = time.monotonic()

    def _save(self) -> None:
        body = json.dumps(self._run.to_dict(), indent=1, default=str)
        self.store.write(_path(self.store, self.id, "run.json"), body.encode())


def list_runs(store: Store) -> list[Run]:
    """All runs, oldest first."""
    found = store.fs.glob(store.path(FOLDER, "*", "run.json"))
    runs = [_stored(store, posixpath.basename(posixpath.dirname(path))) for path in found]
    return sorted((_observed(store, run) for run in runs if run is not None), key=lambda run: (run.started_at, run.id))


def read_run(store: Store, run_id: str) -> Run:
    """One run; ``run_id`` may be shortened as long as it names one.

    Raises:
        BadInputError: there is no such run, or several begin like this.
    """
    run = _stored(store, check_name(run_id))
    if run is None:
        found = store.fs.glob(store.path(FOLDER, f"{run_id}*", "run.json"))
        ids = sorted(posixpath.basename(posixpath.dirname(path)) for path in found)
        if len(ids) > 1:
            raise BadInputError(f"several runs begin with {run_id!r}: {', '.join(ids[:5])}")
        run = _stored(store, ids[0]) if ids else None
    if run is None:
        raise BadInputError(f"there is no run {run_id!r}: see `plinth runs list`")
    return _observed(store, run)


def read_metrics(store: Store, run_id: str) -> list[dict[str, Any]]:
    """The logged steps in order, one dict a step. Lines of a step that a resumed run did again are dropped."""
    path = _path(store, check_name(run_id), "metrics.jsonl")
    rows: list[dict[str, Any]] = []
    if not store.exists(path):
        return rows
    for line in store.read(path).decode(errors="replace").splitlines():
        row = _point(line)
        if row is None:
            continue
        if rows and row["step"] < rows[-1]["step"]:  # resumed from a checkpoint before the last line
            while rows and rows[-1]["step"] >= row["step"]:
                rows.pop()
        if rows and rows[-1]["step"] == row["step"]:
            rows[-1] = _joined(rows[-1], row)
        else:
            rows.append(row)
    return rows


class NewestPoint:
    """Follows what a run logs; reads only what came since the last look."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._path = store, _path(store, check_name(run_id), "metrics.jsonl")
        self._offset = 0  # where the last line begins that was read: it may have been half written
        self._row: dict[str, Any] | None = None

    def look(self) -> dict[str, Any] | None:
        """The newest logged step, as ``read_metrics`` has it; None before the first one."""
        if not self._store.exists(self._path):
            return None
        size = int(self._store.fs.size(self._path))
        if size < self._offset:  # another file
            self._offset = 0
        if size == self._offset:
            return self._row
        body: bytes = self._store.fs.cat_file(self._path, start=self._offset)
        for line in body.decode(errors="replace").splitlines():
            if (row := _point(line)) is not None:
                same = self._row is not None and self._row["step"] == row["step"]
                self._row = _joined(self._row, row) if same and self._row else row
        self._offset += body.rfind(b"\n") + 1
        return self._row


def _point(line: str) -> dict[str, Any] | None:
    """A logged line; None for the torn line of a kill."""
    try:
        row = json.loads(line)
        return {**row, "step": int(row["step"])}
    except (ValueError, KeyError, TypeError):
        return None


def _joined(row: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Two lines of one step; one point has one time."""
    return {**row, **later, "at": row.get("at", later.get("at", ""))}


def cancel(store: Store, run_id: str, actor: str = "") -> Run:
    """Ask a run to stop at its next step, with a checkpoint.

    Raises:
        BadInputError: no such run.
        UsageError: it does not run any more.
    """
    run = read_run(store, run_id)
    if run.state != "running":
        raise UsageError(f"run {run.id} does not run any more: it is {run.state}")
    marker = json.dumps({"at": utc_now(), "by": actor}).encode()
    store.write(_path(store, run.id, "cancel.json"), marker)
    return run


def _path(store: Store, run_id: str, name: str) -> str:
    return store.path(FOLDER, run_id, name)


def _stored(store: Store, run_id: str) -> Run | None:
    path = _path(store, run_id, "run.json")
    return Run.from_dict(store.read_json(path)) if store.exists(path) else None


def _remove(store: Store, path: str) -> None:
    if store.exists(path):
        store.fs.rm(path)


def _observed(store: Store, run: Run) -> Run:
    """The run as it really is: ``running`` only while somebody runs it."""
    if run.state != "running":
        return run
    if run.host == socket.gethostname():
        alive = bool(run.process_start) and _process_start(run.pid) == run.process_start
    else:
        rows = read_metrics(store, run.id)
        seen = datetime.fromisoformat(rows[-1]["at"] if rows else run.started_at)
        alive = (datetime.now(UTC) - seen).total_seconds() < OTHER_HOST_SILENT_S
    return run if alive else dataclasses.replace(run, state="interrupted")


def _process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot, with the boot id: tells a pid from its reuse. Empty: gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def _finite(value: float | str | None) -> float | int | str | None:
    if value is None or isinstance(value, str | int):
        return value
    return float(value) if math.isfinite(value) else None
