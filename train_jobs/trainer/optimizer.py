"""The optimizers that ``train.optimizer`` can name. A new one is a function here, and its name in the configuration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)


def adamw(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019). Matrices are decayed; norms, which are vectors, are not."""
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True)


OPTIMIZERS: dict[str, Callable[[nn.Module, float], torch.optim.Optimizer]] = {"adamw": adamw}


def make_optimizer(name: str, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """The optimizer ``name`` of the table for a model's weights, at a learning rate that the loop changes as it goes.

    Its state must be tensors by weight, which is what a checkpoint holds.

    Raises:
        KeyError: there is none of that name; the configuration lets no other name through.
    """
    return OPTIMIZERS[name](model, rate)
