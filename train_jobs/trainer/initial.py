"""What a network is before its first step: weights to start from, and dropout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cluster.core.errors import IntegrityError
from cluster.core.storage import Store
from train_jobs.distributed.ranks import Ranks
from train_jobs.models.weights import fingerprint, read_weights
from train_jobs.objectives.protocol import Objective
from train_jobs.trainer.checkpoint import Checkpoint
from train_jobs.trainer.plan import RunPlan


def first_network(plan: RunPlan, objective: Objective, ranks: Ranks, store: Store) -> nn.Module:
    """The network with its first weights; on ranks that receive theirs, without any.

    Raises:
        IntegrityError: as ``load_initial``.
    """
    empty = plan.strategy == "fsdp2" and ranks.rank > 0
    network = objective.build(plan, "meta" if empty else "cpu")
    if empty and has_tied_weights(network):
        network = objective.build(plan)
    if plan.initial and not empty:
        load_initial(plan, store, network)
    return network


def load_initial(plan: RunPlan, store: Store, model: nn.Module) -> None:
    """Start from published weights.

    Raises:
        IntegrityError: they do not match their hash, or are those of another model.
    """
    state = {
        name: tensor for part in read_weights(store, plan.initial, plan.initial_files) for name, tensor in part.items()
    }
    load_weights(model, plan.model.from_hugging_face(state))


def base_of(plan: RunPlan) -> str:
    """The fingerprint of the weights that a run starts from; empty for random ones."""
    return fingerprint(plan.initial_files) if plan.initial else ""


def whole_weights(plan: RunPlan, store: Store, last: Checkpoint) -> dict[str, Tensor]:
    """All weights of a checkpoint's network, float32: what it holds, and from the base what was not trained.

    Raises:
        IntegrityError: the base is not the one that was trained on, or damaged.
    """
    trained = {name: tensor.float() for name, tensor in last.tensors().items()}
    if not last.base:
        return trained
    last.check_base(base_of(plan))
    parts = read_weights(store, plan.initial, plan.initial_files)
    base = plan.model.from_hugging_face({name: tensor for part in parts for name, tensor in part.items()})
    return {**base, **trained}


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
