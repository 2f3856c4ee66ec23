"""Checkpoints of a run: weights, optimizer and place in the data, as safetensors and JSON, each file with its hash.

Layout below the run's folder: ``checkpoints/<step>/{model,optimizer}.safetensors, state.json, manifest.json``. The
manifest comes last, so a kill in the middle leaves a folder that does not count. Loading checks every hash (safetensors
itself accepts a flipped bit in its body) and takes the newest checkpoint that is whole.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cluster.core.errors import IntegrityError
from cluster.core.storage import MANIFEST, Store
from cluster.core.telemetry import log_event

KEEP = 2
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass
class TrainState:
    """Where a run is. ``step`` steps and ``tokens`` tokens are done. By the clock they took ``elapsed_s`` seconds, of
    which ``counted_s`` count (``schedule.counted_seconds``).

    ``startup_s`` is what the first attempt took before its first step, ``precision`` what it computes in, ``rows`` the
    lines of metrics.jsonl so far, ``finished`` whether the run reached its end.
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
    """A verified checkpoint in memory: safetensors bytes and the state."""

    path: str
    model: bytes
    optimizer: bytes
    state: TrainState


def save(store: Store, folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState) -> str:
    """Write a checkpoint below ``folder`` and remove all but the newest ``KEEP``; returns its path.

    Raises:
        EnvironmentFaultError: the disk is full; earlier checkpoints are untouched.
    """
    from safetensors.torch import save as to_bytes

    path = path_of(folder, state.step)
    if store.exists(path):
        store.fs.rm(path, recursive=True)
    files = {
        MODEL: to_bytes(weights_of(model), metadata={"format": "pt"}),
        OPTIMIZER: to_bytes(optimizer_tensors(model, optimizer)),
        STATE: json.dumps(asdict(state)).encode(),
    }
    for name, body in files.items():
        store.write(posixpath.join(path, name), body)
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    store.write(posixpath.join(path, MANIFEST), json.dumps({"files": hashes}).encode())
    _prune(store, folder)
    return path


def latest(store: Store, folder: str) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are logged and passed over."""
    for path in reversed(paths(store, folder)):
        try:
            return load(store, path)
        except IntegrityError as error:
            log_event("train", "checkpoint_refused", path=path, reason=error.message)
    return None


def load(store: Store, path: str) -> Checkpoint:
    """Read one checkpoint and check it.

    Raises:
        IntegrityError: a file is missing, truncated or changed, or the manifest is unreadable.
    """
    try:
        hashes = store.read_json(posixpath.join(path, MANIFEST))["files"]
        files = {name: store.read(posixpath.join(path, name)) for name in (MODEL, OPTIMIZER, STATE)}
        wrong = [name for name, body in files.items() if hashlib.sha256(body).hexdigest() != hashes[name]]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the checkpoint {path} is not whole ({type(error).__name__})", path=path) from None
    if wrong:
        raise IntegrityError(f"the checkpoint {path} is damaged: {', '.join(wrong)} do not match", path=path)
    return Checkpoint(path, files[MODEL], files[OPTIMIZER], TrainState(**json.loads(files[STATE])))


def path_of(folder: str, step: int) -> str:
    """Where the checkpoint of a step lies below a run's folder."""
    return posixpath.join(folder, "checkpoints", f"{step:08d}")


def paths(store: Store, folder: str) -> list[str]:
    """Folders of finished checkpoints, oldest first (not verified)."""
    found = store.fs.glob(posixpath.join(folder, "checkpoints", "*", MANIFEST))
    return sorted(posixpath.dirname(path) for path in found)


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a checkpoint's weights and optimizer state into a model and its optimizer."""
    from safetensors.torch import load as from_bytes

    load_weights(model, from_bytes(checkpoint.model))
    tensors = from_bytes(checkpoint.optimizer)
    names = {id(weight): name for name, weight in unwrapped(model).named_parameters()}
    for group in optimizer.param_groups:
        for weight in group["params"]:
            prefix = f"{names[id(weight)]}/"
            found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if found:
                optimizer.state[weight] = found
    return checkpoint.state


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters under transformers' names, float32, contiguous."""
    return {n: w.detach().float().contiguous() for n, w in unwrapped(model).named_parameters()}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy weights in; names and shapes must be the model's.

    Raises:
        IntegrityError: they are not.
    """
    own = dict(unwrapped(model).named_parameters())
    wrong = [
        n for n in own.keys() | tensors.keys() if n not in own or n not in tensors or own[n].shape != tensors[n].shape
    ]
    if wrong:
        raise IntegrityError(f"{len(wrong)} weights do not fit the model, {sorted(wrong)[0]} first")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(tensors[name])


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as ``<parameter>/<what>`` tensors."""
    names = {id(weight): name for name, weight in unwrapped(model).named_parameters()}
    return {
        f"{names[id(weight)]}/{what}": value.detach().contiguous()
        for weight, state in optimizer.state.items()
        for what, value in state.items()
    }


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def discard_after(store: Store, folder: str, step: int) -> None:
    """Remove checkpoints beyond a step: damaged ones, and what a killed attempt left half written."""
    root = posixpath.join(folder, "checkpoints")
    for path in store.fs.ls(root, detail=False) if store.exists(root) else []:
        if int(posixpath.basename(path.rstrip("/"))) > step:
            store.fs.rm(path, recursive=True)


def _prune(store: Store, folder: str) -> None:
    for path in paths(store, folder)[:-KEEP]:
        store.fs.rm(path, recursive=True)
