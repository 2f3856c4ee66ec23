"""Masked tokens (Devlin et al. 2018): of each text 15 % are to be told from the rest; of those 80 % are replaced by the
mask, 10 % by any token, and 10 % stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
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

SHARE, MASKED, RANDOM = 0.15, 0.8, 0.1


@dataclass(frozen=True)
class MaskedBatch:
    """One worker's rows: ``ids`` (with masks) and ``mask`` [n, T], ``where`` the flat positions that are to be told and
    ``targets`` what stood there. ``total`` counts them over the whole step."""

    ids: Tensor
    mask: Tensor
    where: Tensor
    targets: Tensor
    total: int
    tokens: int


class MaskedTexts:
    """Steps of masked texts; every epoch masks a text anew, and the same way on any number of workers.

    Args:
        special: ids that are never masked; token: the mask's.
    """

    def __init__(
        self, arrays: Arrays, size: int, seed: int, pad: int, token: int, vocab: int, special: Sequence[int]
    ) -> None:
        self.texts, self.size, self.seed, self.pad = Texts(arrays["ids"], arrays["starts"]), size, seed, pad
        self.token, self.vocab, self.special = token, vocab, np.array(special)
        self.epochs = Epochs(len(self.texts), size, seed)
        self.steps_per_epoch = self.epochs.steps_per_epoch

    def batch(self, step: int, rank: int = 0, world: int = 1) -> MaskedBatch:
        """As ``Batches``."""
        return self._batch(self.epochs.chosen(step), 1 + step // self.steps_per_epoch, rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[MaskedBatch]:
        """As ``Batches``."""
        rows = np.arange(len(self.texts))
        return [self._batch(rows[i : i + self.size], 0, rank, world) for i in range(0, len(rows), self.size)]

    def corrupted(self, row: int, epoch: int) -> tuple[Ids, Ids]:
        """A text's ids as the network sees them, and the places that are to be told: at least one where it can be."""
        rng = np.random.default_rng([self.seed, epoch, row])
        ids = self.texts.ids[self.texts.starts[row] : self.texts.starts[row + 1]].astype(np.int64)
        able = np.flatnonzero(~np.isin(ids, self.special))
        count = min(len(able), max(1, round(SHARE * len(able))))
        places = np.sort(rng.permutation(able)[:count])
        drawn, others = rng.random(count), rng.integers(0, self.vocab, count)
        ids[places] = np.where(drawn < MASKED, self.token, np.where(drawn < MASKED + RANDOM, others, ids[places]))
        return ids, places

    def _batch(self, rows: Ids, epoch: int, rank: int, world: int) -> MaskedBatch:
        made = [self.corrupted(int(row), epoch) for row in rows]
        mine = made[rank::world]
        original, mask = self.texts.padded(rows[rank::world], self.pad)
        ids, where = original.copy(), []
        for line, (seen, places) in enumerate(mine):
            ids[line, : len(seen)] = seen
            where.append(line * ids.shape[1] + places)
        flat = np.concatenate([*where, np.zeros(0, dtype=np.int64)])
        targets = original.reshape(-1)[flat]
        return MaskedBatch(
            torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(flat), torch.from_numpy(targets),
            sum(len(places) for _, places in made), int(self.texts.lengths(rows).sum()),
        )  # fmt: skip


class Masked:
    """``masked``; the network gives scores [n, vocab] for padded ids, their mask and positions."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[MaskedBatch]]:
        """As ``Objective``."""
        arrays, options = read_arrays(plan, store), plan.options
        train, held_out = (
            MaskedTexts(part(arrays, side), int(options["rows"]), plan.seed, plan.pad, int(options["mask"]),
                        plan.model.vocab, options["special"])
            for side in ("train", "held_out")
        )  # fmt: skip
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: MaskedBatch) -> Tensor:
        """As ``Objective``: the mean cross-entropy (nats) of the masked tokens."""
        return self._sum(network, batch) / max(1, batch.total)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[MaskedBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``: the loss a masked token."""
        full = [batch for batch in batches if len(batch.where)]
        loss = sum(float(self._sum(network, batch)) for batch in full)
        return {"held_out_loss": (loss, float(sum(len(batch.where) for batch in full)))}

    def _sum(self, network: nn.Module, batch: MaskedBatch) -> Tensor:
        device = device_of(network)
        scores = network(batch.ids.to(device), batch.mask.to(device), batch.where.to(device))
        return F.cross_entropy(scores, batch.targets.to(device), reduction="sum")


OBJECTIVES: dict[str, Objective] = {"masked": Masked()}
