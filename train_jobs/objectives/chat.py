"""Supervised chat: of each conversation the tokens that the assistant said are learnt, the rest is only read.

Conversations are packed into rows of the context's length; none sees another (``segments``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.data.batches import Arrays, Ids
from train_jobs.data.texts import Epochs, Texts, part
from train_jobs.objectives.causal_lm import device_of, read_arrays

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan

NOT_LEARNT = -100


@dataclass(frozen=True)
class PackedBatch:
    """One worker's rows: ``ids`` [B, T], ``segments`` [B, T] (which text each token is of; None where each row is one),
    ``where`` [n] flat positions whose next token counts, ``targets`` [n]. ``total`` and ``tokens`` as ``Batch``."""

    ids: Ids
    segments: Ids | None
    where: Ids
    targets: Ids
    total: int
    tokens: int


class Packed:
    """Steps of texts packed into rows.

    Which texts share a row follows from their lengths and the seed; each epoch takes the rows in an order of its own.

    Args:
        arrays: ``ids`` and ``starts`` of the texts, and ``learn``, 1 for each token that is to be predicted.
        context: length of a row; no text is longer.
        batch_tokens: of a step.
        alone: give each text a row of its own (a row is then what ``Poisson`` draws).
    """

    def __init__(
        self, arrays: Arrays, context: int, batch_tokens: int, seed: int, pad: int, alone: bool = False
    ) -> None:
        self.texts, self.learn, self.pad, self.seed = Texts(arrays["ids"], arrays["starts"]), arrays["learn"], pad, seed
        lengths = self.texts.lengths(np.arange(len(self.texts)))
        self.rows = [[text] for text in range(len(lengths))] if alone else pack(lengths, context, seed)
        self.alone = alone
        size = round(batch_tokens / max(1.0, float(lengths.mean()))) if alone else batch_tokens // context
        self.epochs = Epochs(len(self.rows), size, seed)
        self.size, self.steps_per_epoch = self.epochs.size, self.epochs.steps_per_epoch

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PackedBatch:
        """As ``Batches``."""
        return self.of_rows(self.epochs.chosen(step), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[PackedBatch]:
        """As ``Batches``."""
        rows = np.arange(len(self.rows))
        return [self.of_rows(rows[i : i + self.size], rank, world) for i in range(0, len(rows), self.size)]

    def of_rows(self, rows: Ids, rank: int = 0, world: int = 1) -> PackedBatch:
        """The share of ``rank`` in a step of these rows."""
        mine = [self.rows[row] for row in rows[rank::world]]
        starts = self.texts.starts
        texts = [text for row in rows for text in self.rows[row]]
        # The first token of a text has nothing before it to be predicted from.
        total = sum(int(self.learn[starts[text] + 1 : starts[text + 1]].sum()) for text in texts)
        widths = [int(self.texts.lengths(np.array(row)).sum()) for row in mine]
        width = max(widths, default=2)
        ids = np.full((max(1, len(mine)), width), self.pad, dtype=np.int64)
        segments = np.zeros_like(ids)
        where: list[Ids] = []
        for line, row in enumerate(mine):
            at = 0
            for number, text in enumerate(row):
                tokens = self.texts.ids[starts[text] : starts[text + 1]]
                ids[line, at : at + len(tokens)] = tokens
                segments[line, at : at + len(tokens)] = number + 1
                counted = np.flatnonzero(self.learn[starts[text] + 1 : starts[text + 1]])
                where.append(line * width + at + counted)
                at += len(tokens)
        flat = np.concatenate([*where, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        targets = ids.reshape(-1)[flat + 1] if len(flat) else flat
        read = int(self.texts.lengths(np.array(texts, dtype=np.int64)).sum())
        return PackedBatch(ids, None if self.alone else segments, flat, targets, total, read)


class Chat:
    """``chat``: the mean cross-entropy (nats) of what the assistant said, given all before it."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[PackedBatch]]:
        """As ``Objective``."""
        train, held_out = open_packed(plan, store)
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: PackedBatch) -> Tensor:
        """As ``Objective``."""
        return summed_loss(network, batch) / max(1, batch.total)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[PackedBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``: the loss a token that counts."""
        full = [batch for batch in batches if len(batch.where)]
        loss = sum(float(summed_loss(network, batch)) for batch in full)
        return {"held_out_loss": (loss, float(sum(len(batch.where) for batch in full)))}

    def private_rows(self, batch: PackedBatch) -> tuple[Tensor, ...]:
        """As ``privacy.PrivateObjective``: ids [B, T], and of each position what comes next where that counts."""
        targets = np.full(batch.ids.size, NOT_LEARNT, dtype=np.int64)
        targets[batch.where] = batch.targets
        count = len(batch.ids) if batch.tokens else 0
        return torch.from_numpy(batch.ids)[:count], torch.from_numpy(targets.reshape(batch.ids.shape))[:count]

    def loss_of_row(self, call: Callable[..., Tensor], *row: Any) -> Tensor:
        """As ``privacy.PrivateObjective``: the mean over the row's tokens that count."""
        ids, targets = row
        return F.cross_entropy(call(ids[None])[0], targets, ignore_index=NOT_LEARNT, reduction="sum") / (
            (targets != NOT_LEARNT).sum().clamp(min=1)
        )


def summed_loss(network: nn.Module, batch: PackedBatch) -> Tensor:
    """The sum of the cross-entropies (nats) of a batch's targets."""
    device = device_of(network)
    segments = None if batch.segments is None else torch.from_numpy(batch.segments).to(device)
    ids, where, targets = (torch.from_numpy(array).to(device) for array in (batch.ids, batch.where, batch.targets))
    loss: Tensor = network(ids, where, segments=segments, targets=targets)
    return loss


def open_packed(plan: RunPlan, store: Store) -> tuple[Packed, Packed]:
    """Both sides of a plan's data, packed; each text alone where the run is private."""
    arrays = read_arrays(plan, store)
    alone = bool(plan.options.get("privacy") or plan.options.get("alone"))
    train, held_out = (
        Packed(part(arrays, side), plan.model.context, plan.batch_tokens, plan.seed, plan.pad, alone)
        for side in ("train", "held_out")
    )
    return train, held_out


def pack(lengths: npt.NDArray[Any], context: int, seed: int) -> list[list[int]]:
    """Which texts share rows of ``context`` tokens: best fit, the longest first, ties in a seeded order."""
    order = np.random.default_rng([seed, len(lengths)]).permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(context + 1)]
    for text in order:
        need = int(lengths[text])
        room = next((room for room in range(need, context + 1) if by_room[room]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, context
        else:
            row = by_room[room].pop()
        rows[row].append(int(text))
        by_room[max(0, room - need)].append(row)
    return rows


OBJECTIVES: dict[str, Objective] = {"chat": Chat()}
