"""Causal language modelling: each next token of a stream (``next_token``), or those of completions (``completion``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cluster.core.errors import IntegrityError
from data_jobs.corpus.token_index import SIDES
from train_jobs.data.batches import Arrays, Batch, Examples
from train_jobs.data.corpora import open_windows
from train_jobs.data.packing import Windows

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan


class NextToken:
    """Every token of a stream is predicted from those before it."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, list[Batch]]:
        """As ``Objective``."""
        if plan.data:  # a benchmark's tokens, which are no documents
            arrays = read_arrays(plan, store)
            settings = (plan.model.context, plan.batch_tokens, plan.seed)
            train, held_out = (Windows(arrays[side], *settings) for side in SIDES)
        else:
            train, held_out = open_windows(plan, store)
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """The mean cross-entropy (nats) of the step's tokens, as ``Objective`` shares it."""
        device = device_of(network)
        ids, where, targets = as_tensors(batch, device)
        # Where every position counts, picking positions would only copy them.
        everywhere = len(where) == ids.numel()
        segments = segments_of(batch, device)
        loss: Tensor = network(ids, None if everywhere else where, segments=segments, targets=targets)
        return loss / batch.total

    def evaluate(self, network: nn.Module, batches: Sequence[Batch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``: the loss (nats) a token."""
        loss, tokens, _, _ = (float(v) for v in sums_over(network, batches))
        return {"held_out_loss": (loss, tokens)}


class Completion(NextToken):
    """The tokens of completions are predicted from their prompts; prompts themselves are not learnt."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, list[Batch]]:
        """As ``Objective``."""
        arrays = read_arrays(plan, store)
        train, held_out = (
            Examples(
                {name: arrays[f"{side}.{name}"] for name in ("ids", "lengths")}, plan.batch_tokens, plan.seed, plan.pad
            )
            for side in SIDES
        )
        return train, held_out.in_order(ranks.rank, ranks.size)

    def evaluate(self, network: nn.Module, batches: Sequence[Batch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``: beside the loss how many completions are exactly right, given the true tokens before."""
        loss, tokens, exact, rows = (float(v) for v in sums_over(network, batches))
        return {"held_out_loss": (loss, tokens), "held_out_accuracy": (exact, rows)}


OBJECTIVES: dict[str, Objective] = {"next_token": NextToken(), "completion": Completion()}


def read_arrays(plan: RunPlan, store: Store) -> Arrays:
    """The plan's data, verified.

    Raises:
        IntegrityError: they do not match their hash.
    """
    from safetensors.numpy import load

    body = store.read(plan.data)
    if hashlib.sha256(body).hexdigest() != plan.data_sha256:
        raise IntegrityError(f"{plan.data} does not match its hash; run the same command again", path=plan.data)
    return load(body)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are, and its inputs have to go."""
    return next(network.parameters()).device


def as_tensors(batch: Batch, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """A batch's ids [B, T], positions that count [n] and targets [n], int64; on a CPU without copying."""
    arrays = (batch.ids, batch.where, batch.targets)
    ids, where, targets = (torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)
    return ids, where, targets


def segments_of(batch: Batch, device: torch.device | str = "cpu") -> Tensor | None:
    """The numbers of a batch's documents in their rows, [B, T], where they are told apart."""
    return None if batch.segments is None else torch.from_numpy(batch.segments).to(device, non_blocking=True)


@torch.no_grad()
def sums_over(network: nn.Module, batches: Sequence[Batch]) -> Tensor:
    """Sums over this worker's batches, float64 [4]: loss (nats), tokens, rows answered exactly, rows.

    A row counts as exact when every counted token is the argmax given the true tokens before it (teacher forcing).
    """
    sums = torch.zeros(4, dtype=torch.float64)
    device = device_of(network)
    for batch in batches:
        if not len(batch.where):
            continue
        ids, where, targets = as_tensors(batch, device)
        logits = network(ids, where, segments=segments_of(batch, device))
        rows = torch.div(where, ids.shape[1], rounding_mode="floor")
        wrong = torch.zeros(len(ids), device=device).index_add_(0, rows, (logits.argmax(dim=-1) != targets).float())
        counted = torch.zeros(len(ids), device=device).index_add_(0, rows, torch.ones(len(rows), device=device))
        sums += torch.tensor(
            [
                F.cross_entropy(logits, targets, reduction="sum").item(), len(targets),
                int(((wrong == 0) & (counted > 0)).sum()), int((counted > 0).sum()),
            ],
            dtype=torch.float64,
        )  # fmt: skip
    return sums
