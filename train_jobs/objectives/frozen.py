"""Networks that a run learns from and does not change: a reference, a teacher."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from torch import nn

from cluster.core.errors import IntegrityError
from train_jobs.trainer.checkpoint import load_weights

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.models.spec import ModelSpec


def frozen_network(spec: ModelSpec, store: Store, path: str, sha256: str) -> nn.Module:
    """The network of a spec with published weights, which take no gradients.

    Raises:
        IntegrityError: the weights do not match their hash, or the spec.
    """
    from safetensors.torch import load

    body = store.read(path)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise IntegrityError(f"{path} does not match its hash: damaged or changed", path=path)
    network = spec.build()
    load_weights(network, spec.from_hugging_face(load(body)))
    return network.eval().requires_grad_(False)
