"""The weights of a Hugging Face folder in a store: written in shards, read shard by shard, each against its hash."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from train_jobs.publishing.model_folder import INDEX

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 4 << 30
SUFFIX = ".safetensors"


def weight_files(state: Mapping[str, Tensor], limit: int = SHARD_BYTES) -> Iterator[tuple[str, bytes]]:
    """Name and content of the safetensors files of a state, none above ``limit`` bytes unless one tensor is, and of
    their index where there are several."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save

    plan = split_torch_state_dict_into_shards(
        dict(state), max_shard_size=limit, filename_pattern="model{suffix}.safetensors"
    )
    for name, tensors in plan.filename_to_tensors.items():
        yield name, save({key: state[key].contiguous() for key in tensors}, metadata={"format": "pt"})
    if plan.is_sharded:
        yield INDEX, json.dumps({"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}, indent=1).encode()


def weight_hashes(manifest: Manifest) -> dict[str, str]:
    """The safetensors files of an artefact by name, with the sha256 that its manifest gives them.

    Raises:
        BadInputError: it has none.
    """
    found = {
        entry.path: entry.sha256 for entry in manifest.files if "/" not in entry.path and entry.path.endswith(SUFFIX)
    }
    if not found:
        raise BadInputError(f"{manifest.kind} {manifest.name}@{manifest.version} holds no weights (*.safetensors)")
    return found


def read_weights(store: Store, folder: str, hashes: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """The tensors of each file below ``folder``, one file after the other.

    Raises:
        IntegrityError: a file is not the one of its hash.
    """
    from safetensors.torch import load

    for name, wanted in sorted(hashes.items()):
        path = posixpath.join(folder, name)
        body = store.read(path)
        if hashlib.sha256(body).hexdigest() != wanted:
            raise IntegrityError(f"{path} does not match its manifest: damaged or changed", path=path)
        yield load(body)


def fingerprint(hashes: Mapping[str, str]) -> str:
    """What tells models apart by their weights: one sha256 over the names and hashes of their files."""
    return hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()
