"""Writing checkpoints (``checkpoint.py`` says what they are) on a thread, while the loop goes on.

A step waits only until this rank's numbers are copied. Nothing here is a collective operation: ranks report by files,
so that a thread of one rank never meets the exchange of gradients of another.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cluster.core.errors import TrainingError
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from train_jobs.distributed.ranks import Ranks
from train_jobs.distributed.strategy import Shard, Strategy
from train_jobs.trainer.checkpoint import (
    MODEL,
    OPTIMIZER,
    Manifest,
    TrainState,
    best_step,
    path_of,
    prune,
    put_manifest,
    read_manifest,
)
from train_jobs.trainer.rows import write_rows

FILE_BYTES = 512 << 20  # of one file: it is in memory once more while it is written
REPORT_S = 600.0  # how long rank 0 waits for the others' reports


class Writer:
    """Writes the checkpoints of a run from one rank, one after the other, on a thread of its own.

    Args:
        base: fingerprint of the weights it began with, where somebody keeps them: what is not trained is left out.
    """

    def __init__(self, store: Store, folder: str, ranks: Ranks, base: str = "") -> None:
        self.store, self.folder, self.ranks, self.base = store, folder, ranks, base
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: list[Future[None]] = []
        self._given_up = threading.Event()

    def save(self, strategy: Strategy, state: TrainState) -> None:
        """Copy this rank's part and write it; returns when it is copied. All ranks call this at the same step.

        Raises:
            EnvironmentFaultError: an earlier one could not be written, the disk is full; those before are untouched.
        """
        self.wait()
        left_out = strategy.frozen() if self.base else frozenset()
        parts = {MODEL: strategy.weights(without=left_out), OPTIMIZER: strategy.optimizer_state()}
        shards = {f"{part}/{name}": shard for part, found in parts.items() for name, shard in found.items()}
        mine = {
            key: (torch.empty(len(shard.local), dtype=shard.local.dtype).copy_(shard.local), shard)
            for key, shard in owned(shards, self.ranks.rank, self.ranks.size).items()
        }
        path = path_of(self.folder, state.step)
        self._pending.append(self._thread.submit(self._write, path, mine, _copied(state), bool(left_out)))

    def amend(self, state: TrainState) -> None:
        """Replace the state in the manifest of its step, once that is written; rank 0's business."""
        if self.ranks.rank == 0:
            self._pending.append(self._thread.submit(self._amend, path_of(self.folder, state.step), _copied(state)))

    def check(self) -> None:
        """Raise what went wrong with a checkpoint that is written; does not wait."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            EnvironmentFaultError: something could not be.
        """
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def close(self) -> None:
        """Write what was begun, without waiting for ranks that do not report any more."""
        self._given_up.set()
        self._thread.shutdown(wait=True)

    def _write(self, path: str, mine: dict[str, tuple[Tensor, Shard]], state: TrainState, partly: bool) -> None:
        report: Manifest = {"files": {}, "tensors": {}}
        for name, keys in self._files(mine):
            self._write_file(path, name, {key: mine[key] for key in keys}, report)
        reports = [report]
        if self.ranks.rank:
            self.store.write(_report(path, self.ranks.rank), json.dumps(report).encode())
            return
        for rank in range(1, self.ranks.size):
            reports.append(self._report_of(path, rank))
        manifest: Manifest = {"files": {}, "tensors": {}, "state": _plain(state)}
        if partly:
            manifest["base_sha256"] = self.base
        for one in reports:
            manifest["files"] |= one["files"]
            for key, row in one["tensors"].items():
                parts = manifest["tensors"].setdefault(key, {**row, "parts": []})["parts"]
                # Several ranks may hold the same number, such as a count of steps: the first one's counts.
                parts += [part for part in row["parts"] if part[1:] not in [known[1:] for known in parts]]
        write_rows(self.store, self.folder, state.step, state.rows)
        put_manifest(self.store, path, manifest)
        for rank in range(1, self.ranks.size):
            self.store.fs.rm(_report(path, rank))
        prune(self.store, self.folder, best_step(state.rows))
        log_event("train", "checkpoint_saved", step=state.step, path=path)

    def _files(self, mine: dict[str, tuple[Tensor, Shard]]) -> Iterator[tuple[str, list[str]]]:
        for part in (MODEL, OPTIMIZER):
            keys, size, number = [], 0, 0
            for key, (values, _) in mine.items():
                if not key.startswith(f"{part}/"):
                    continue
                keys.append(key)
                size += values.nbytes
                if size >= FILE_BYTES:
                    yield f"{part}-{self.ranks.rank:05d}-{number}.safetensors", keys
                    keys, size, number = [], 0, number + 1
            if keys:
                yield f"{part}-{self.ranks.rank:05d}-{number}.safetensors", keys

    def _write_file(self, path: str, name: str, held: dict[str, tuple[Tensor, Shard]], report: Manifest) -> None:
        from safetensors.torch import save as to_bytes

        body = to_bytes({key: values for key, (values, _) in held.items()})
        self.store.write(posixpath.join(path, name), body)
        report["files"][name] = hashlib.sha256(body).hexdigest()
        for key, (values, shard) in held.items():
            dtype = str(values.dtype).removeprefix("torch.")
            part = [name, shard.start, values.numel()]
            report["tensors"][key] = {"shape": list(shard.shape), "dtype": dtype, "parts": [part]}

    def _report_of(self, path: str, rank: int) -> Manifest:
        where, deadline, pause = _report(path, rank), time.monotonic() + REPORT_S, 0.002
        while not self.store.exists(where):
            if self._given_up.wait(pause) or time.monotonic() > deadline:
                raise TrainingError(f"worker {rank} wrote no part of {path}: the checkpoint before it counts")
            pause = min(2 * pause, 0.1 if self.store.local else 1.0)
        found: Manifest = self.store.read_json(where)
        return found

    def _amend(self, path: str, state: TrainState) -> None:
        write_rows(self.store, self.folder, state.step, state.rows)
        put_manifest(self.store, path, {**read_manifest(self.store, path), "state": _plain(state)})


def _copied(state: TrainState) -> TrainState:
    """As it is now: of the lines only the last one may still change."""
    return replace(state, rows=[*state.rows[:-1], *(dict(row) for row in state.rows[-1:])])


def _plain(state: TrainState) -> dict[str, Any]:
    return {name: value for name, value in vars(state).items() if name != "rows"}


def owned(shards: Mapping[str, Shard], rank: int, size: int) -> dict[str, Shard]:
    """What a rank writes: its parts, and its share, by bytes, of what every rank holds."""
    load, mine = [0] * size, {}
    for key, shard in shards.items():
        if shard.replicated:
            owner = load.index(min(load))
            load[owner] += shard.local.nbytes
            if owner != rank:
                continue
        if shard.local.numel():
            mine[key] = shard
    return mine


def _report(path: str, rank: int) -> str:
    return posixpath.join(path, f"report-{rank:05d}.json")
