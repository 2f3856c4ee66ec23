"""Classification of texts, or of pairs of texts: which of the labels a row has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.data.batches import Arrays, Ids
from train_jobs.data.texts import Epochs, Texts, part
from train_jobs.objectives.causal_lm import device_of, read_arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan


@dataclass(frozen=True)
class LabelBatch:
    """One worker's rows: ``ids`` and ``mask`` [n, T], ``labels`` [n]; where it has none, one row of padding and no
    label. ``total`` counts the rows of the step."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    total: int
    tokens: int


class LabelledTexts:
    """Steps of rows, in epochs of shuffled order."""

    def __init__(self, arrays: Arrays, size: int, seed: int, pad: int) -> None:
        self.texts, self.labels = Texts(arrays["ids"], arrays["starts"]), arrays["labels"].astype(np.int64)
        self.pad, self.size = pad, size
        self.epochs = Epochs(len(self.labels), size, seed)
        self.steps_per_epoch = self.epochs.steps_per_epoch

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> LabelBatch:
        """As ``Batches``."""
        return self.of_rows(self.epochs.chosen(step), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[LabelBatch]:
        """As ``Batches``; rows of like length together."""
        order = np.argsort(self.texts.lengths(np.arange(len(self))), kind="stable")
        return [self.of_rows(order[i : i + 64], rank, world) for i in range(0, len(order), 64)]

    def of_rows(self, rows: Ids, rank: int = 0, world: int = 1) -> LabelBatch:
        """The share of ``rank`` in a step of these rows."""
        mine = rows[rank::world]
        ids, mask = self.texts.padded(mine, self.pad)
        tokens = int(self.texts.lengths(rows).sum())
        return LabelBatch(
            torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(self.labels[mine]), len(rows), tokens
        )


class Labels:
    """``labels``; the network gives scores [n, labels] for padded ids and their mask."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[LabelBatch]]:
        """As ``Objective``."""
        arrays = read_arrays(plan, store)
        train, held_out = (
            LabelledTexts(part(arrays, side), int(plan.options["rows"]), plan.seed, plan.pad)
            for side in ("train", "held_out")
        )
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: LabelBatch) -> Tensor:
        """As ``Objective``: the mean cross-entropy (nats) of the step's labels."""
        device = device_of(network)
        scores = network(batch.ids.to(device), batch.mask.to(device))[: len(batch.labels)]
        return F.cross_entropy(scores, batch.labels.to(device), reduction="sum") / max(1, batch.total)

    def private_rows(self, batch: LabelBatch) -> tuple[Tensor, ...]:
        """As ``privacy.PrivateObjective``."""
        count = len(batch.labels)
        return batch.ids[:count], batch.mask[:count], batch.labels

    def loss_of_row(self, call: Callable[..., Tensor], *row: Any) -> Tensor:
        """As ``privacy.PrivateObjective``."""
        ids, mask, label = row
        return F.cross_entropy(call(ids[None], mask[None]), label[None])

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[LabelBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``, over rows: the loss, and how many labels are right."""
        loss = right = count = 0.0
        for batch in batches:
            if len(batch.labels):
                device = device_of(network)
                scores, labels = network(batch.ids.to(device), batch.mask.to(device)), batch.labels.to(device)
                loss += float(F.cross_entropy(scores, labels, reduction="sum"))
                right += float((scores.argmax(dim=1) == labels).sum())
                count += len(labels)
        return {"held_out_loss": (loss, count), "held_out_accuracy": (right, count)}


OBJECTIVES: dict[str, Objective] = {"labels": Labels()}
