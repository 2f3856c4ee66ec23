"""A question finds its passage among those that an index would put beside it: what ``plinth adapt`` minimises.

Contrastive (van den Oord et al. 2018) over hard negatives: of each question the passages that search ranks highest, by
words and by vectors. A passage's score is what search orders by: the cosine with the changed vector, and what its
words are worth, which no training changes. Passages keep their vectors. A changed vector that leaves the question's
own costs ``KEEP`` times its distance, so that what was not asked for in training stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.data.batches import Arrays
from train_jobs.data.texts import Epochs, part
from train_jobs.objectives.causal_lm import device_of, read_arrays
from train_jobs.objectives.contrastive import TEMPERATURE

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.data.batches import Ids
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan

KEEP = 1.0
EVALUATED_AT_ONCE = 256
NONE = -1e4  # the score of a place that no passage takes


@dataclass(frozen=True)
class AskedBatch:
    """One worker's questions [n, dim], and for each the vectors [n, c, dim] of passages, the right one first, with what
    their words are worth [n, c], ``NONE`` where there is no passage."""

    questions: Tensor
    passages: Tensor
    words: Tensor
    total: int

    @property
    def tokens(self) -> int:
        """As ``Batch``."""
        return self.total


class AskedPassages:
    """Steps of questions with their passages.

    Args:
        vectors: float [passages, dim], of the index.
        arrays: of the side's rows ``questions`` float32 [n, dim], ``passages`` [n, c] rows of ``vectors``, the right
            one first and -1 for none, ``words`` float32 [n, c].
        size: questions of a step.
    """

    def __init__(self, vectors: np.ndarray, arrays: Arrays, size: int, seed: int) -> None:
        self.vectors, self.size = vectors, size
        self.questions, self.passages, self.words = (arrays[name] for name in ("questions", "passages", "words"))
        self.epochs = Epochs(len(self.questions), size, seed)
        self.steps_per_epoch = self.epochs.steps_per_epoch

    def batch(self, step: int, rank: int = 0, world: int = 1) -> AskedBatch:
        """As ``Batches``."""
        return self._batch(self.epochs.chosen(step), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[AskedBatch]:
        """As ``Batches``."""
        rows = np.arange(len(self.questions))
        starts = range(0, len(rows), EVALUATED_AT_ONCE)
        return [self._batch(rows[i : i + EVALUATED_AT_ONCE], rank, world) for i in starts]

    def _batch(self, rows: Ids, rank: int, world: int) -> AskedBatch:
        mine = rows[rank::world]
        passages = self.passages[mine]
        return AskedBatch(
            torch.from_numpy(self.questions[mine].astype(np.float32)),
            torch.from_numpy(self.vectors[np.maximum(passages, 0)].astype(np.float32)),
            torch.from_numpy(np.where(passages < 0, np.float32(NONE), self.words[mine])),
            len(rows),
        )


class AskedPassagesObjective:
    """``asked_passages``; the network gives changed vectors of questions."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[AskedBatch]]:
        """As ``Objective``."""
        arrays = read_arrays(plan, store)
        train, held_out = (
            AskedPassages(arrays["vectors"], part(arrays, side), int(plan.options["rows"]), plan.seed)
            for side in ("train", "held_out")
        )
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: AskedBatch) -> Tensor:
        """As ``Objective``: the mean over questions of how surprising the right passage is (nats), and of how far the
        question moved."""
        scores, moved = self._scores(network, batch)
        return (surprise(scores) + KEEP * moved) / max(1, batch.total)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[AskedBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``, over questions: the loss, and the reciprocal rank of the right passage among its own."""
        loss, ranks, count = 0.0, 0.0, 0.0
        for batch in batches:
            scores, _ = self._scores(network, batch)
            loss += float(surprise(scores))
            ranks += float((1 / (1 + (scores[:, 1:] > scores[:, :1]).sum(dim=1))).sum())
            count += len(scores)
        return {"held_out_loss": (loss, count), "held_out_mrr": (ranks, count)}

    def _scores(self, network: nn.Module, batch: AskedBatch) -> tuple[Tensor, Tensor]:
        """The scores [n, c], and the sum over questions of one less the cosine with their own vector."""
        device = device_of(network)
        questions = batch.questions.to(device)
        changed = network(questions)
        scores = torch.einsum("nd,ncd->nc", changed, batch.passages.to(device)) + batch.words.to(device)
        return scores, (1 - F.cosine_similarity(changed, questions, dim=-1)).sum()


def surprise(scores: Tensor) -> Tensor:
    """The sum over lines [n, c] of the cross-entropy (nats) of the first of each."""
    right = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    return F.cross_entropy(scores / TEMPERATURE, right, reduction="sum")


OBJECTIVES: dict[str, Objective] = {"asked_passages": AskedPassagesObjective()}
