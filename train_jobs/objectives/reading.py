"""Reading: whether a window of text answers a question, and where (the two heads of ``models.reader``).

The span is learnt from rows that have one; its loss stands beside that of the answer, as in BERT for SQuAD 2 (Devlin et
al. 2018), only that a row without an answer has no span instead of one at [CLS]: a span is asked for either way, and
the probability says whether to believe it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.data.batches import Arrays, Ids
from train_jobs.data.texts import Texts, part
from train_jobs.objectives.causal_lm import device_of, read_arrays

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan

SPAN_WEIGHT = 0.5
ALIKE = 16  # steps whose rows are sorted by length together: little padding, and still an order of its own every epoch
NO_SPAN = -1


@dataclass(frozen=True)
class ReadingBatch:
    """One worker's rows: ``ids``, ``mask`` and ``types`` [n, T], ``answerable`` [n] 0 or 1, ``spans`` [n, 2] first and
    last token of the answer, ``NO_SPAN`` without one; where it has no rows, one of padding and no label. ``total``
    counts the rows of the step."""

    ids: Tensor
    mask: Tensor
    types: Tensor
    answerable: Tensor
    spans: Tensor
    total: int
    tokens: int


class Pages:
    """Steps of rows of like length, in epochs of shuffled order.

    Args:
        arrays: ``ids``, ``starts``, ``types`` (as ids), ``answerable`` and ``spans``.
    """

    def __init__(self, arrays: Arrays, size: int, seed: int, pad: int) -> None:
        self.texts, self.types = (Texts(arrays[name], arrays["starts"]) for name in ("ids", "types"))
        self.answerable, self.spans = arrays["answerable"].astype(np.float32), arrays["spans"].astype(np.int64)
        self.pad, self.seed = pad, seed
        self.size = max(1, min(size, len(self)))
        self.steps_per_epoch = -(-len(self) // self.size)

    def __len__(self) -> int:
        return len(self.answerable)

    def chosen(self, step: int) -> Ids:
        """The rows of a step (0-based): every epoch takes each row once."""
        epoch, within = divmod(step, self.steps_per_epoch)
        block, place = divmod(within, ALIKE)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
        rows = order[block * ALIKE * self.size : (block + 1) * ALIKE * self.size]
        rows = rows[np.argsort(self.texts.lengths(rows), kind="stable")]
        steps = -(-len(rows) // self.size)
        at = int(np.random.default_rng([self.seed, epoch, block]).permutation(steps)[place])
        return rows[at * self.size : (at + 1) * self.size]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> ReadingBatch:
        """As ``Batches``."""
        return self.of_rows(self.chosen(step), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[ReadingBatch]:
        """As ``Batches``; rows of like length together."""
        order = self.order()
        return [self.of_rows(order[i : i + 64], rank, world) for i in range(0, len(order), 64)]

    def order(self) -> Ids:
        """The rows as ``in_order`` has them."""
        return np.argsort(self.texts.lengths(np.arange(len(self))), kind="stable")

    def of_rows(self, rows: Ids, rank: int = 0, world: int = 1) -> ReadingBatch:
        """The share of ``rank`` in a step of these rows."""
        mine = rows[rank::world]
        ids, mask = self.texts.padded(mine, self.pad)
        types, _ = self.types.padded(mine, 0)
        return ReadingBatch(
            torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(types * mask),
            torch.from_numpy(self.answerable[mine]), torch.from_numpy(self.spans[mine]), len(rows),
            int(self.texts.lengths(rows).sum()),
        )  # fmt: skip


class Reading:
    """``reading``; the network is a ``ReaderNetwork``."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[ReadingBatch]]:
        """As ``Objective``."""
        arrays = read_arrays(plan, store)
        train, held_out = (
            Pages(part(arrays, side), int(plan.options["rows"]), plan.seed, plan.pad) for side in ("train", "held_out")
        )
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: ReadingBatch) -> Tensor:
        """As ``Objective``: binary cross-entropy (nats) a row, and ``SPAN_WEIGHT`` times that of the span's ends."""
        answers, spans = losses(network, batch)
        return (answers.sum() + SPAN_WEIGHT * spans.sum()) / max(1, batch.total)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[ReadingBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``, over rows; ``held_out_span`` over rows with a span: the share found to the token."""
        loss = right = count = found = spans = 0.0
        for batch in batches:
            rows = len(batch.answerable)
            if not rows:
                continue
            device = device_of(network)
            logits, scores = network(*(part.to(device) for part in (batch.ids, batch.mask, batch.types)))
            wanted, chances = batch.answerable.to(device), logits[:rows]
            loss += float(F.binary_cross_entropy_with_logits(chances, wanted, reduction="sum"))
            right += float(((chances > 0) == (wanted > 0.5)).sum())
            has = batch.spans[:, 0] != NO_SPAN
            ends = masked(scores[:rows], batch, device).argmax(dim=1)[has.to(device)]
            found += float((ends == batch.spans[has].to(device)).all(dim=1).sum())
            spans, count = spans + float(has.sum()), count + rows
        return {
            "held_out_loss": (loss, count), "held_out_accuracy": (right, count), "held_out_span": (found, spans),
        }  # fmt: skip


def losses(network: nn.Module, batch: ReadingBatch) -> tuple[Tensor, Tensor]:
    """Of every row the loss of its answer [n], and of every row with a span that of its two ends (their mean)."""
    device = device_of(network)
    logits, scores = network(*(part.to(device) for part in (batch.ids, batch.mask, batch.types)))
    rows = len(batch.answerable)
    answers = F.binary_cross_entropy_with_logits(logits[:rows], batch.answerable.to(device), reduction="none")
    ends = batch.spans.to(device)
    spans = F.cross_entropy(masked(scores[:rows], batch, device), ends, ignore_index=NO_SPAN, reduction="none")
    return answers, spans.mean(dim=1)


def masked(scores: Tensor, batch: ReadingBatch, device: torch.device) -> Tensor:
    """The scores [n, T, 2] of real tokens, -10,000 for others."""
    return scores.masked_fill(~batch.mask[: len(scores)].to(device).unsqueeze(-1), -1e4)


OBJECTIVES: dict[str, Objective] = {"reading": Reading()}
