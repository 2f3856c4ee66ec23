"""Unfinished runs of the same inputs and settings, whose code was another: nobody starts over without knowing it.

A run's key, and with it its folder, hashes the source files too (``cluster.core.run_keys``). So an edit in the middle
of a run gives the same command another folder, and days of training would lie unfound. What was begun is therefore
noted in each folder without the code. Imports no torch.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import Any, Literal

from actors.registry.runs import read_run
from cluster.core.errors import BadInputError, UsageError
from cluster.core.records import stable_hash
from cluster.core.storage import MANIFEST, Store, utc_now
from cluster.core.telemetry import log_event

BEGUN = "begun.json"
# What to do with a run that another state of the code began. None: nobody is there to be asked; start over beside it.
CodeChange = Literal["ask", "resume", "fresh"] | None


@dataclass(frozen=True)
class Begun:
    """A run's folder with at least one checkpoint: its key, when it began, and the step of the newest checkpoint."""

    key: str
    at: str
    step: int


def settle(
    store: Store, stage: str, key: str, inputs: dict[str, str], settings: dict[str, Any], change: CodeChange
) -> None:
    """Note that a run begins in ``staging/<key>``, and decide about those that other code began.

    With ``resume`` the newest one's checkpoints become this run's; with ``fresh`` whatever was begun is removed, this
    run's own checkpoints too. Runs that still run are nobody's business.

    Raises:
        UsageError: ``ask``, and there is one; the message names the flags.
    """
    same = stable_hash({"stage": stage, "inputs": inputs, "settings": settings})
    own = store.staging(key)
    if change == "fresh":
        for begun in [*_others(store, stage, key, same), *_checkpoints(store, key)]:
            store.fs.rm(store.path("staging", begun.key), recursive=True)
    elif change is not None and not _checkpoints(store, key):
        others = sorted(_others(store, stage, key, same), key=lambda begun: (begun.at, begun.step))
        if others and change == "ask":
            last = others[-1]
            raise UsageError(
                f"the code of training changed since a run of the same inputs and settings stopped at step {last.step} "
                f"({stage}-{last.key}): --allow-code-change goes on from there with the code as it is now, --fresh "
                "removes it and starts over", run=f"{stage}-{last.key}", step=last.step,
            )  # fmt: skip
        if others:
            _adopt(store, others[-1], own)
    store.write(posixpath.join(own, BEGUN), json.dumps({"stage": stage, "same": same, "at": utc_now()}).encode())


def _adopt(store: Store, begun: Begun, own: str) -> None:
    theirs = store.path("staging", begun.key)
    if store.exists(own):
        store.fs.rm(own, recursive=True)
    store.fs.mv(theirs, own, recursive=True)
    log_event("train", "code_changed", adopted=begun.key, step=begun.step)


def _others(store: Store, stage: str, key: str, same: str) -> list[Begun]:
    found = []
    for path in store.fs.glob(store.path("staging", "*", BEGUN)):
        other = posixpath.basename(posixpath.dirname(path))
        row = store.read_json(path)
        if other != key and row.get("same") == same and not _runs(store, f"{stage}-{other}"):
            found += _checkpoints(store, other, row["at"])
    return found


def _checkpoints(store: Store, key: str, at: str = "") -> list[Begun]:
    found = store.fs.glob(store.path("staging", key, "checkpoints", "*", MANIFEST))
    steps = sorted(int(posixpath.basename(posixpath.dirname(path))) for path in found)
    return [Begun(key, at, steps[-1])] if steps else []


def _runs(store: Store, run_id: str) -> bool:
    try:
        return read_run(store, run_id).state == "running"
    except BadInputError:
        return False
