"""What is minimised and what is reported beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.data.batches import Batch


def as_tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """A batch's ids [B, T], positions that count [n] and targets [n], int64, without copying."""
    return torch.from_numpy(batch.ids), torch.from_numpy(batch.where), torch.from_numpy(batch.targets)


def share_of_loss(model: nn.Module, batch: Batch) -> Tensor:
    """This worker's share of the step's mean cross-entropy (nats): the shares of all workers add up to it.

    Dividing by the step's total, not by the worker's own count, makes any number of workers take the same step.
    """
    ids, where, targets = as_tensors(batch)
    # Where every position counts, picking positions would only copy them.
    logits = model(ids, None if len(where) == ids.numel() else where)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets, reduction="sum") / batch.total


@torch.no_grad()
def evaluate(model: nn.Module, batches: list[Batch]) -> Tensor:
    """Sums over this worker's batches, float64 [4]: loss (nats), tokens, rows answered exactly, rows.

    A row counts as exact when every counted token is the argmax given the true tokens before it (teacher forcing).
    """
    sums = torch.zeros(4, dtype=torch.float64)
    for batch in batches:
        if not len(batch.where):
            continue
        ids, where, targets = as_tensors(batch)
        logits = model(ids, where)
        rows = torch.div(where, ids.shape[1], rounding_mode="floor")
        wrong = torch.zeros(len(ids)).index_add_(0, rows, (logits.argmax(dim=-1) != targets).float())
        counted = torch.zeros(len(ids)).index_add_(0, rows, torch.ones(len(rows)))
        sums += torch.tensor(
            [
                F.cross_entropy(logits, targets, reduction="sum").item(), len(targets),
                int(((wrong == 0) & (counted > 0)).sum()), int((counted > 0).sum()),
            ],
            dtype=torch.float64,
        )  # fmt: skip
    return sums
