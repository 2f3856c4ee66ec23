"""Networks that a run learns from and does not change: a reference, a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from train_jobs.models.weights import read_weights
from train_jobs.trainer.initial import load_weights

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.models.spec import ModelSpec


def frozen_network(spec: ModelSpec, store: Store, folder: str, files: Mapping[str, str]) -> nn.Module:
    """The network of a spec with published weights, which take no gradients.

    Args:
        folder, files: where they are, and their files with sha256.

    Raises:
        IntegrityError: the weights do not match their hash, or the spec.
    """
    state = {name: tensor for part in read_weights(store, folder, files) for name, tensor in part.items()}
    network = spec.build()
    load_weights(network, spec.from_hugging_face(state))
    return network.eval().requires_grad_(False)
