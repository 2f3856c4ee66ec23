"""A document encoder learns the vectors of a larger one, its teacher: of whole texts, of their parts, of each state.

The student starts as its teacher, with adjacent tokens merged before the first layer (``Bert``); it is not shown
function words. Of each text it minimises ``2 (1 - cos)`` of the mean state, ``1 - cos`` of the means of its parts, and
half the squared error of its states against the mean of the teacher's states of their tokens, relative to their size:
what TinyBERT (Jiao et al. 2020) does with hidden states, at a coarser grain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from data_jobs.retrieval.bert import token_counts
from train_jobs.data.batches import Arrays, Ids
from train_jobs.data.texts import Epochs, Texts, part
from train_jobs.models.bert import mean_of
from train_jobs.models.weights import read_weights
from train_jobs.objectives.causal_lm import device_of, read_arrays
from train_jobs.trainer.initial import load_weights

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.models.encoders import EncoderSpec
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan

WHOLE, PARTS, STATES = 2.0, 1.0, 0.5  # weights of the three errors


@dataclass(frozen=True)
class TaughtBatch:
    """One worker's texts: ``ids`` and ``mask`` [n, T]; ``parts`` [p, 3]: a line, and its run of tokens."""

    ids: Ids
    mask: np.ndarray
    parts: Ids
    teacher: nn.Module
    total: int
    tokens: int


class TaughtTexts:
    """Steps of texts with the runs of tokens that are their parts.

    Args:
        arrays: ``ids`` and ``starts`` of ``Texts``; ``parts`` [p, 2] runs within their text, ``parts_of`` where those
            of each text begin.
    """

    def __init__(self, arrays: Arrays, size: int, seed: int, pad: int, teacher: nn.Module) -> None:
        self.texts, self.size, self.pad = Texts(arrays["ids"], arrays["starts"]), size, pad
        self.parts, self.parts_of, self.teacher = arrays["parts"], arrays["parts_of"].astype(np.int64), teacher
        self.epochs = Epochs(len(self.texts), size, seed)
        self.steps_per_epoch = self.epochs.steps_per_epoch

    def batch(self, step: int, rank: int = 0, world: int = 1) -> TaughtBatch:
        """As ``Batches``."""
        return self._batch(self.epochs.chosen(step), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[TaughtBatch]:
        """As ``Batches``."""
        rows = np.arange(len(self.texts))
        return [self._batch(rows[i : i + self.size], rank, world) for i in range(0, len(rows), self.size)]

    def _batch(self, rows: Ids, rank: int, world: int) -> TaughtBatch:
        mine = rows[rank::world]
        ids, mask = self.texts.padded(mine, self.pad)
        parts = [
            (line, *map(int, run))
            for line, row in enumerate(mine)
            for run in self.parts[self.parts_of[row] : self.parts_of[row + 1]]
        ]
        found = np.array(parts, dtype=np.int64).reshape(-1, 3)
        return TaughtBatch(ids, mask, found, self.teacher, len(rows), int(self.texts.lengths(rows).sum()))


class DocumentVectors:
    """``document_vectors``; the network gives states. Its teacher is the encoder whose weights the run starts from."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[TaughtBatch]]:
        """As ``Objective``."""
        arrays, options = read_arrays(plan, store), plan.options
        teacher = teacher_of(plan, store)
        train, held_out = (
            TaughtTexts(part(arrays, side), int(options["rows"]), plan.seed, plan.pad, teacher)
            for side in ("train", "held_out")
        )
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: TaughtBatch) -> Tensor:
        """As ``Objective``: the mean over texts."""
        return self._sums(network, batch)[0] / max(1, batch.total)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[TaughtBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``: the loss, and the mean cosine with the teacher's vector, of a text."""
        full = [batch for batch in batches if batch.mask.shape[1] > 1]
        sums = [self._sums(network, batch) for batch in full]
        texts = float(sum(len(batch.ids) for batch in full))
        return {
            "held_out_loss": (sum(float(loss) for loss, _ in sums), texts),
            "held_out_cosine": (sum(float(cosine) for _, cosine in sums), texts),
        }

    def _sums(self, network: nn.Module, batch: TaughtBatch) -> tuple[Tensor, Tensor]:
        """The losses of this worker's texts, and their cosines, each summed."""
        device = device_of(network)
        ids, mask = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.mask).to(device)
        with torch.no_grad():
            states = batch.teacher.to(device).hidden(ids, mask)  # type: ignore[operator]
        spec = cast("EncoderSpec", network.spec)
        shown, kept, before = spec.shown(ids, mask)
        learnt, n = network(shown, kept), spec.merge
        counts = token_counts(kept, n)
        own = states[mask & spec.seen(ids)]  # the teacher's states of what is shown, in order
        targets = learnt.new_zeros((*kept.shape, own.shape[-1]))
        targets[kept] = own.to(targets.dtype)
        targets = F.pad(targets, (0, 0, 0, -kept.shape[1] % n)).unflatten(1, (-1, n)).sum(2)
        real = counts > 0
        targets = targets[real] / counts[real].unsqueeze(-1)
        errors = ((learnt[real] - targets) ** 2).mean() / (targets**2).mean().clamp(min=1e-6)
        weights = counts.unsqueeze(-1).to(learnt.dtype)
        whole = (learnt * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        cosines = F.cosine_similarity(whole, mean_of(states, mask), dim=-1).sum()
        loss = WHOLE * (len(ids) - cosines) + STATES * len(ids) * errors
        if len(batch.parts):
            line, first, end = torch.from_numpy(batch.parts).to(device).T
            a, b = before[line, first], before[line, end]
            some = b > a
            mine = _run_means(learnt, line[some], a[some] // n, (b[some] + n - 1) // n)
            theirs = _run_means(states, line[some], first[some], end[some])
            if len(mine):
                loss = loss + PARTS * len(ids) * (1 - F.cosine_similarity(mine, theirs, dim=-1).mean())
        return loss, cosines


def _run_means(states: Tensor, line: Tensor, first: Tensor, end: Tensor) -> Tensor:
    """The means [p, d] of runs of states [n, T, d]."""
    sums = F.pad(states.cumsum(1), (0, 0, 1, 0))
    return (sums[line, end] - sums[line, first]) / (end - first).unsqueeze(-1)


def teacher_of(plan: RunPlan, store: Store) -> nn.Module:
    """The encoder whose weights the run starts from, without what the student adds; it takes no gradients.

    Raises:
        IntegrityError: the weights do not match their hash.
    """
    student = cast("EncoderSpec", plan.model)
    spec = replace(student, settings=student.teacher_settings(), head="vector")
    network = spec.build()
    known = {name for name, _ in network.named_parameters()}
    tensors = {
        name: tensor
        for file in read_weights(store, plan.initial, plan.initial_files)
        for name, tensor in file.items()
        if name in known
    }
    load_weights(network, tensors)
    return network.eval().requires_grad_(False)


OBJECTIVES: dict[str, Objective] = {"document_vectors": DocumentVectors()}
