"""Checkpoints of a run: weights, optimizer and place in the data, written by all ranks while training goes on.

Layout below the run's folder: ``checkpoints/<step>/{model,optimizer}-<rank>-<n>.safetensors, manifest.json``. Each rank
writes the numbers it holds (``strategy.Shard``: a flat range of a tensor) and reports their hashes; rank 0 writes the
manifest once all have reported, so that a kill in the middle leaves a folder that does not count. The manifest says
which file holds which range of which tensor, the hashes, and the run's state. Loading checks every hash (safetensors
itself accepts a flipped bit in its body), takes the newest checkpoint that is whole, and cuts its ranges as the ranks
of today need them: any number of workers, any strategy.

Weights that are not trained (those under adapters) are in the base, not in the checkpoint: the manifest then says
``base_sha256``, the fingerprint of the base's weights, and goes with no other base.

``torch.distributed.checkpoint`` is not used: its index is a pickle, and it knows no ranges as ZeRO's partitions are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cluster.core.errors import IntegrityError
from cluster.core.storage import MANIFEST, Store
from cluster.core.telemetry import log_event
from train_jobs.distributed.ranks import Ranks
from train_jobs.distributed.strategy import Shard, Stored, Strategy
from train_jobs.trainer.rows import keep_rows, read_rows

KEEP = 2
MODEL, OPTIMIZER = "model", "optimizer"
Manifest = dict[str, Any]


@dataclass
class TrainState:
    """Where a run is. ``step`` steps and ``tokens`` tokens are done. By the clock they took ``elapsed_s`` seconds, of
    which ``counted_s`` count (``schedule.counted_seconds``).

    ``startup_s`` is what the first attempt took before its first step, ``precision`` what it computes in, ``rows`` the
    lines of metrics.jsonl so far (kept beside the checkpoints, ``rows.py``), ``finished`` whether it is at its end.
    """

    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    counted_s: float = 0.0
    startup_s: float = 0.0
    precision: str = "fp32"
    finished: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest was read; ``state`` is where the run was."""

    store: Store
    path: str
    manifest: Manifest
    state: TrainState

    def tensors(self, part: str = MODEL) -> dict[str, Tensor]:
        """The weights by name, or with ``part=OPTIMIZER`` the optimizer's state as ``<weight>/<what>``."""
        shards = {
            name: Shard(torch.empty(_numel(shape), dtype=dtype), 0, shape)
            for name, (shape, dtype) in self.stored(part).items()
        }
        self.fill(part, shards)
        return {name: shard.local.view(shard.shape) for name, shard in shards.items()}

    @property
    def base(self) -> str:
        """Fingerprint of the base that holds the weights that were not trained; empty where all are here."""
        return str(self.manifest.get("base_sha256", ""))

    def check_base(self, base: str) -> None:
        """Refuse another base than that of the run.

        Raises:
            IntegrityError: it is another.
        """
        if self.base and self.base != base:
            raise IntegrityError(
                f"{self.path} was trained on a base with the weights {self.base[:16]}, and here is "
                f"{f'one with {base[:16]}' if base else 'none'}", path=self.path,
            )  # fmt: skip

    @property
    def model(self) -> bytes:
        """All weights it holds as one safetensors file, float32."""
        from safetensors.torch import save

        return save({name: value.float() for name, value in self.tensors().items()}, metadata={"format": "pt"})

    def stored(self, part: str) -> Stored:
        """Shape and type of each tensor of a part."""
        return {
            key.partition("/")[2]: (tuple(row["shape"]), getattr(torch, row["dtype"]))
            for key, row in self.manifest["tensors"].items()
            if key.startswith(f"{part}/")
        }

    def fill(self, part: str, shards: Mapping[str, Shard]) -> None:
        """Copy what the shards are part of into them.

        Raises:
            IntegrityError: names or shapes differ from what is stored.
        """
        stored = self.stored(part)
        wrong = [n for n in shards if n not in stored or stored[n][0] != shards[n].shape]
        if part == MODEL:  # of the optimizer's state a rank may hold nothing at all
            wrong += [n for n in stored if n not in shards and _numel(stored[n][0])]
        if wrong:
            raise IntegrityError(f"{len(wrong)} tensors of {self.path} do not fit the model, {sorted(wrong)[0]} first")
        with contextlib.ExitStack() as opened, torch.no_grad():
            files: dict[str, _Ranges] = {}
            for name, shard in shards.items():
                begin, end, found = shard.start, shard.start + shard.local.numel(), 0
                for file, start, count in self.manifest["tensors"][f"{part}/{name}"]["parts"]:
                    first, last = max(begin, start), min(end, start + count)
                    if first < last:
                        if file not in files:
                            handle = opened.enter_context(self.store.fs.open(posixpath.join(self.path, file), "rb"))
                            files[file] = _Ranges(handle)
                        values = files[file].read(f"{part}/{name}", stored[name][1], first - start, last - first)
                        shard.local[first - begin : last - begin].copy_(values)
                        found += last - first
                if found != end - begin:
                    raise IntegrityError(f"{self.path} holds only {found} of {end - begin} numbers of {name}")


def latest(store: Store, folder: str) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are logged and passed over."""
    return latest_of_group(store, folder, Ranks())


def latest_of_group(store: Store, folder: str, ranks: Ranks) -> Checkpoint | None:
    """The newest checkpoint that is whole, the same on every rank; each checks its share of the files."""
    found = paths(store, folder) if ranks.rank == 0 else []
    while True:
        (step,) = ranks.from_first([float(step_of(found.pop())) if found else -1.0])
        if step < 0:
            return None
        path, problem = path_of(folder, int(step)), ""
        try:
            checkpoint = load(store, path, ranks.rank, ranks.size)
        except IntegrityError as error:
            problem = error.message
            log_event("train", "checkpoint_refused", path=path, reason=problem)
        if not float(ranks.add(torch.tensor(float(bool(problem)), dtype=torch.float64, device=ranks.device))):
            return checkpoint


def load(store: Store, path: str, share: int = 0, of: int = 1) -> Checkpoint:
    """Read one checkpoint's manifest and check its files, all or every ``of``-th.

    Raises:
        IntegrityError: a file is missing, truncated or changed, or the manifest is unreadable.
    """
    manifest = read_manifest(store, path)
    wrong = []
    for name in sorted(manifest["files"])[share::of]:
        file = posixpath.join(path, name)
        if not store.exists(file) or store.digest(file)[0] != manifest["files"][name]:
            wrong.append(name)
    if wrong:
        raise IntegrityError(f"the checkpoint {path} is damaged: {', '.join(wrong)} do not match", path=path)
    return Checkpoint(store, path, manifest, _state(store, path, manifest))


def _state(store: Store, path: str, manifest: Manifest) -> TrainState:
    state = TrainState(**manifest["state"])
    # Manifests held the lines themselves once.
    state.rows = state.rows or read_rows(store, posixpath.dirname(posixpath.dirname(path)), state.step)
    return state


def restore(checkpoint: Checkpoint, strategy: Strategy, base: str = "") -> TrainState:
    """Put a checkpoint's weights and optimizer state into what a strategy holds, on the base of this fingerprint.

    Raises:
        IntegrityError: it is of another model, or another base.
    """
    checkpoint.check_base(base)
    checkpoint.fill(MODEL, strategy.weights(without=strategy.frozen() if checkpoint.base else ()))
    strategy.allocate(checkpoint.stored(OPTIMIZER))
    checkpoint.fill(OPTIMIZER, strategy.optimizer_state())
    strategy.loaded()
    return checkpoint.state


def path_of(folder: str, step: int) -> str:
    """Where the checkpoint of a step lies below a run's folder."""
    return posixpath.join(folder, "checkpoints", f"{step:08d}")


def step_of(path: str) -> int:
    """The step of a checkpoint by its path."""
    return int(posixpath.basename(path.rstrip("/")))


def newest_step(store: Store, folder: str) -> int | None:
    """The step of the newest checkpoint below a run's folder (not verified), None where there is none."""
    found = paths(store, folder)
    return step_of(found[-1]) if found else None


def paths(store: Store, folder: str) -> list[str]:
    """Folders of finished checkpoints, oldest first (not verified)."""
    found = store.fs.glob(posixpath.join(folder, "checkpoints", "*", MANIFEST))
    return sorted(posixpath.dirname(path) for path in found)


def discard_after(store: Store, folder: str, step: int) -> None:
    """Remove checkpoints beyond a step, damaged ones and what a killed attempt left half written, and their lines."""
    keep_rows(store, folder, step)
    root = posixpath.join(folder, "checkpoints")
    for path in store.fs.ls(root, detail=False) if store.exists(root) else []:
        if step_of(path) > step:
            store.fs.rm(path, recursive=True)


def finish_at(store: Store, folder: str, step: int) -> TrainState:
    """Make an earlier checkpoint the end of the run: the best one of a run that was stopped early."""
    path = path_of(folder, step)
    manifest = read_manifest(store, path)
    manifest["state"]["finished"] = True
    put_manifest(store, path, manifest)
    discard_after(store, folder, step)
    return _state(store, path, manifest)


def prune(store: Store, folder: str, best: int | None = None) -> None:
    """Remove all but the newest ``KEEP`` checkpoints and the ``best`` one (its step), and what is older and half."""
    kept = {step_of(path) for path in paths(store, folder)[-KEEP:]}
    if best is not None:
        kept.add(best)
    root = posixpath.join(folder, "checkpoints")
    for path in store.fs.ls(root, detail=False) if kept else []:
        if step_of(path) not in kept and step_of(path) < max(kept):
            store.fs.rm(path, recursive=True)


def best_step(rows: list[dict[str, Any]]) -> int | None:
    """The step with the least held-out loss, None where none was measured after the first step."""
    measured = [(row["held_out_loss"], row["step"]) for row in rows if row.get("held_out_loss") and row["step"]]
    return int(min(measured)[1]) if measured else None


class _Ranges:
    """Ranges of a safetensors file's tensors, read one by one."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        size = int.from_bytes(handle.read(8), "little")
        self.header, self.body = json.loads(handle.read(size)), 8 + size

    def read(self, key: str, dtype: torch.dtype, start: int, count: int) -> Tensor:
        """``count`` numbers of a one-dimensional tensor, from ``start`` on."""
        self.handle.seek(self.body + self.header[key]["data_offsets"][0] + start * dtype.itemsize)
        return torch.frombuffer(bytearray(self.handle.read(count * dtype.itemsize)), dtype=dtype)


def read_manifest(store: Store, path: str) -> Manifest:
    """A checkpoint's manifest.

    Raises:
        IntegrityError: it is missing or damaged.
    """
    try:
        found: Manifest = store.read_json(posixpath.join(path, MANIFEST))
        said = found.pop("sha256")
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"the checkpoint {path} is not whole ({type(error).__name__})", path=path) from None
    if said != _checksum(found):
        raise IntegrityError(f"the checkpoint {path} is damaged: its manifest does not match itself", path=path)
    return found


def put_manifest(store: Store, path: str, manifest: Manifest) -> None:
    """Write a checkpoint's manifest, whole or not at all."""
    body = {**manifest, "sha256": _checksum(manifest)}
    store.write(posixpath.join(path, MANIFEST), json.dumps(body).encode())


def _checksum(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
