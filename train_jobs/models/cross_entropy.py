"""Cross-entropy of a linear output layer without the logits of all positions: chunk by chunk, with both gradients.

At a vocabulary of 128k the float32 logits of 16k positions are 8 GB, and their gradient as much again. Here a chunk of
logits lives until its share of the loss and of both gradients is added up, as in Liger (Hsu et al. 2024) and Cut
Cross-Entropy (Wijmans et al. 2024): the gradients are known with the loss, because only a number follows it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CHUNK_NUMBERS = 1 << 22  # logits that exist at a time: 16 MB in float32; below, adding up gradients costs more
LEAST_ROWS = 64  # below, matrix products become slow


def summed_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """The sum over all positions of the cross-entropy (nats, float32) of ``softmax(hidden @ weight.T + bias)``.

    Equal to ``F.cross_entropy(F.linear(hidden, weight, bias).float(), targets, reduction="sum")`` in value and gradient
    up to rounding. Under autocast the products run in its type; sums are float32.

    Args:
        hidden: [n, width], n may be 0; weight: [vocab, width]; bias: [vocab].
        targets: int64 [n], ids of the vocabulary.
    """
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        summed: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets)
        return summed
    total = hidden.new_zeros((), dtype=torch.float32)
    for begin, end in _chunks(len(hidden), len(weight)):
        logits = F.linear(hidden[begin:end], weight, bias).float()
        total = total + F.cross_entropy(logits, targets[begin:end], reduction="sum")
    return total


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        kind = hidden.device.type
        computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        states, matrix = hidden.detach().to(computed), weight.detach().to(computed)
        total = hidden.new_zeros((), dtype=torch.float32)
        by_hidden = torch.empty_like(hidden)
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        by_bias = torch.zeros_like(bias) if bias is not None else None
        with torch.autocast(kind, enabled=False):
            for begin, end in _chunks(len(hidden), len(weight)):
                rows, wanted = states[begin:end], targets[begin:end, None]
                logits = (rows @ matrix.t()).float()
                if bias is not None:
                    logits += bias.detach()
                slope = torch.log_softmax(logits, dim=-1)
                total -= slope.gather(1, wanted).sum()
                # What was the logarithm of a probability becomes the gradient of its logit: less one at the target.
                slope.exp_()
                slope.scatter_add_(1, wanted, slope.new_full((), -1.0).expand(wanted.shape))
                if by_bias is not None:
                    by_bias += slope.sum(0)
                slope = slope.to(computed)
                by_hidden[begin:end] = slope @ matrix
                if by_weight is not None:
                    if computed == by_weight.dtype:
                        by_weight.addmm_(slope.t(), rows)
                    else:
                        by_weight += slope.t() @ rows
        ctx.save_for_backward(by_hidden, by_weight, by_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (outer,) = gradients
        found = tuple(None if value is None else value * outer.to(value.dtype) for value in ctx.saved_tensors)
        return (*found, None)


def _chunks(rows: int, vocab: int) -> list[tuple[int, int]]:
    """(begin, end) of each chunk of rows; those of equal size but the last."""
    size = max(LEAST_ROWS, CHUNK_NUMBERS // vocab)
    return [(begin, min(rows, begin + size)) for begin in range(0, rows, size)]
