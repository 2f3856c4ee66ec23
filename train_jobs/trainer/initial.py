"""What a network is before its first step: weights to start from, and dropout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cluster.core.errors import IntegrityError
from cluster.core.storage import Store
from train_jobs.models.weights import read_weights
from train_jobs.trainer.plan import RunPlan


def load_initial(plan: RunPlan, store: Store, model: nn.Module) -> None:
    """Start from published weights.

    Raises:
        IntegrityError: they do not match their hash, or are those of another model.
    """
    state = {
        name: tensor for part in read_weights(store, plan.initial, plan.initial_files) for name, tensor in part.items()
    }
    load_weights(model, plan.model.from_hugging_face(state))


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy weights in; names and shapes must be the model's.

    Raises:
        IntegrityError: they are not.
    """
    own = dict(model.named_parameters())
    wrong = [
        n for n in own.keys() | tensors.keys() if n not in own or n not in tensors or own[n].shape != tensors[n].shape
    ]
    if wrong:
        raise IntegrityError(f"{len(wrong)} weights do not fit the model, {sorted(wrong)[0]} first")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(tensors[name])


def has_tied_weights(model: nn.Module) -> bool:
    """Whether one weight stands under several names: on the device meta they would come apart."""
    return len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.named_parameters()))


def set_dropout(model: nn.Module, rate: float) -> None:
    """Drop that share of the outputs of each block in training: wherever the network's modules have a rate of their own
    (``dropout``, ``attention_dropout`` or torch's ``Dropout``)."""
    for path, module in model.named_modules():
        if "lora_dropout" in path:  # adapters have a rate of their own, train.lora_dropout
            continue
        if isinstance(module, nn.Dropout):
            module.p = rate
        for name in ("dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)
