"""The lines of metrics.jsonl of a run that is not finished: beside its checkpoints, each line once.

``rows/<step>.jsonl`` below the run's folder holds the lines that came since the checkpoint before that of ``step``, so
that what a checkpoint costs does not grow with the run. A run that resumes at a step takes the lines up to it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from typing import Any

from cluster.core.storage import Store

Row = dict[str, Any]
FOLDER = "rows"
MOST_FILES = 64  # more are put together: a resuming run reads them one by one


def write_rows(store: Store, folder: str, step: int, rows: Iterable[Row]) -> None:
    """Keep those of ``rows``, all up to ``step``, that earlier checkpoints do not have; the same step again replaces
    its lines."""
    there = _steps(store, folder)
    before = max((one for one in there if one < step), default=-1)
    if len(there) >= MOST_FILES and step not in there:
        keep_rows(store, folder, before)
    body = "".join(f"{json.dumps(row)}\n" for row in rows if row["step"] > before)
    store.write(_path(folder, step), body.encode())


def read_rows(store: Store, folder: str, step: int) -> list[Row]:
    """The lines up to ``step``, in order; a line that a crash tore is left out, for nothing is trained by it."""
    found: dict[int, Row] = {}
    for one in _steps(store, folder):
        for line in store.read(_path(folder, one)).decode(errors="replace").splitlines():
            try:
                row = json.loads(line)
                found[int(row["step"])] = row
            except (ValueError, KeyError, TypeError):
                continue
    return [found[one] for one in sorted(found) if one <= step]


def keep_rows(store: Store, folder: str, step: int) -> None:
    """Put the lines up to ``step`` into one file and drop those beyond; a step below 0 drops all."""
    there = _steps(store, folder)
    if step >= 0 and there not in ([], [step]):
        body = "".join(f"{json.dumps(row)}\n" for row in read_rows(store, folder, step))
        store.write(_path(folder, step), body.encode())
    for one in there:
        if one != step:
            store.fs.rm(_path(folder, one))


def _path(folder: str, step: int) -> str:
    return posixpath.join(folder, FOLDER, f"{step:08d}.jsonl")


def _steps(store: Store, folder: str) -> list[int]:
    found = store.fs.glob(posixpath.join(folder, FOLDER, "*.jsonl"))
    return sorted(int(posixpath.basename(path).removesuffix(".jsonl")) for path in found)
