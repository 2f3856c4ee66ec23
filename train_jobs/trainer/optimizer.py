"""The optimizers that ``train.optimizer`` can name. A new one is a function here, and its name in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
Optimizers = list[torch.optim.Optimizer]


def adamw(model: nn.Module, blocks: Sequence[nn.Module], rate: float, decay: float) -> Optimizers:
    """AdamW (Loshchilov and Hutter 2019). Matrices are decayed; norms, which are vectors, are not."""
    del blocks
    return [_adamw([weight for weight in model.parameters() if weight.requires_grad], rate, decay)]


def muon(model: nn.Module, blocks: Sequence[nn.Module], rate: float, decay: float) -> Optimizers:
    """Muon (Jordan et al. 2024, torch.optim.Muon) for the matrices of the blocks, AdamW for the rest.

    Its steps are scaled to the size of AdamW's (Liu et al. 2025), so that one learning rate serves both.
    """
    inside = {id(weight) for block in blocks for weight in block.parameters() if weight.dim() == 2}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in trained if id(weight) in inside]
    rest = [weight for weight in trained if id(weight) not in inside]
    made: Optimizers = [_adamw(rest, rate, decay)] if rest else []
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return made


OPTIMIZERS: dict[str, Callable[[nn.Module, Sequence[nn.Module], float, float], Optimizers]] = {
    "adamw": adamw,
    "muon": muon,
}


def make_optimizers(
    name: str, model: nn.Module, blocks: Sequence[nn.Module], rate: float, decay: float = WEIGHT_DECAY
) -> Optimizers:
    """The optimizers ``name`` of the table for a model's weights; each group remembers its ``peak`` learning rate.

    Their state must be tensors by weight, which is what a checkpoint holds.

    Args:
        blocks: the model's layers, ``ModelSpec.blocks``.

    Raises:
        KeyError: there is none of that name; the configuration lets no other name through.
    """
    made = OPTIMIZERS[name](model, blocks, rate, decay)
    for group in (group for optimizer in made for group in optimizer.param_groups):
        group["peak"] = group["lr"]
    return made


def _adamw(weights: Sequence[Tensor], rate: float, decay: float) -> torch.optim.Optimizer:
    groups = [
        {"params": [weight for weight in weights if weight.dim() >= 2], "weight_decay": decay},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, betas=BETAS, fused=True)
