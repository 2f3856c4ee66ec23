"""Contrastive learning (InfoNCE, van den Oord et al. 2018): each anchor is to find its own target among all of a step.

``text_pairs``: queries find the texts that answer them; the other queries' texts and hard negatives are the wrong ones.

A step's loss couples all of its rows, so workers exchange their vectors: each computes the whole step's loss from its
own vectors, which carry gradients, and the others', which do not. The gradients of all workers add up to those of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cluster.core.errors import UnsupportedError
from train_jobs.data.batches import Arrays, Ids
from train_jobs.data.texts import Epochs, Texts, part
from train_jobs.distributed.ranks import Ranks
from train_jobs.objectives.causal_lm import device_of, read_arrays

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan

TEMPERATURE = 0.05
EVALUATED_AT_ONCE = 64


@dataclass(frozen=True)
class PairBatch:
    """One worker's share of a step of text pairs.

    Attributes:
        ids, mask: its texts, padded [n, T]: ``queries`` of its own first, then candidates.
        queries, candidates: which queries and candidates of the step they are.
        targets: of every query of the step the candidate that answers it.
        sizes: how many queries and candidates the step has.
        total, tokens: as ``Batch``; an item is a query.
    """

    ids: Tensor
    mask: Tensor
    queries: Tensor
    candidates: Tensor
    targets: Tensor
    sizes: tuple[int, int]
    total: int
    tokens: int
    ranks: Ranks


@dataclass(frozen=True)
class HeldOutPairs:
    """All held-out pairs: the queries and candidates of this worker, in chunks of padded texts (ids, mask), which they
    are, and of every query the right candidate and the wrong ones that came with it."""

    chunks: list[tuple[Tensor, Tensor]]
    queries: Tensor
    candidates: Tensor
    targets: Tensor
    own_negatives: list[Ids]
    sizes: tuple[int, int]
    total: int
    tokens: int
    ranks: Ranks


class Pairs:
    """Steps of query and answer pairs, with hard negatives.

    Args:
        arrays: ``texts.ids`` and ``texts.starts``; of the side's rows ``query`` and ``positive`` (numbers of texts) and
            ``negatives.ids``, ``negatives.starts``.
        size: pairs of a step.
    """

    def __init__(self, texts: Texts, arrays: Arrays, size: int, seed: int, pad: int, ranks: Ranks) -> None:
        self.texts, self.pad, self.ranks = texts, pad, ranks
        self.query, self.positive = (arrays[name].astype(np.int64) for name in ("query", "positive"))
        self.negatives = Texts(arrays["negatives.ids"], arrays["negatives.starts"])
        self.epochs = Epochs(len(self.query), size, seed)
        self.steps_per_epoch = self.epochs.steps_per_epoch

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PairBatch:
        """As ``Batches``: queries and candidates are dealt out in turn."""
        rows = self.epochs.chosen(step)
        # A text is a candidate once: the right answer of two queries would otherwise be wrong for each of them.
        candidates, targets = self._candidates(rows)
        mine, own = np.arange(len(rows))[rank::world], np.arange(len(candidates))[rank::world]
        taken = np.concatenate([self.query[rows][mine], candidates[own]])
        ids, mask = self.texts.padded(taken, self.pad)
        tokens = int(self.texts.lengths(np.concatenate([self.query[rows], candidates])).sum())
        return PairBatch(
            torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(mine), torch.from_numpy(own),
            torch.from_numpy(targets), (len(rows), len(candidates)), len(rows), tokens, self.ranks,
        )  # fmt: skip

    def in_order(self, rank: int = 0, world: int = 1) -> list[HeldOutPairs]:
        """As ``Batches``: everything as one batch, so that every query meets every candidate."""
        rows = np.arange(len(self.query))
        candidates, targets = self._candidates(rows)
        mine, own = rows[rank::world], np.arange(len(candidates))[rank::world]
        taken = np.concatenate([self.query[mine], candidates[own]])
        place = {int(text): number for number, text in enumerate(candidates)}
        own_negatives = [np.array([place[int(t)] for t in self._negatives(row)], dtype=np.int64) for row in mine]
        chunks = [
            self.texts.padded(taken[i : i + EVALUATED_AT_ONCE], self.pad)
            for i in range(0, max(1, len(taken)), EVALUATED_AT_ONCE)
        ]
        return [
            HeldOutPairs(
                [(torch.from_numpy(ids), torch.from_numpy(mask)) for ids, mask in chunks],
                torch.from_numpy(mine), torch.from_numpy(own), torch.from_numpy(targets), own_negatives,
                (len(rows), len(candidates)), len(rows), int(self.texts.lengths(taken).sum()), self.ranks,
            )
        ]  # fmt: skip

    def _negatives(self, row: int) -> Ids:
        found = self.negatives.ids[self.negatives.starts[row] : self.negatives.starts[row + 1]].astype(np.int64)
        return found[found != self.positive[row]]

    def _candidates(self, rows: Ids) -> tuple[Ids, Ids]:
        """The texts that queries choose from, each once, and of each query the right one."""
        texts = np.concatenate([self.positive[rows], *(self._negatives(row) for row in rows)])
        candidates, places = np.unique(texts, return_inverse=True)
        return candidates, places[: len(rows)].astype(np.int64)


class TextPairs:
    """``text_pairs``; the network gives vectors of length 1 for padded ids and their mask."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[HeldOutPairs]]:
        """As ``Objective``."""
        refuse_passes(plan)
        arrays = read_arrays(plan, store)
        texts = Texts(arrays["texts.ids"], arrays["texts.starts"])
        size = int(plan.options["pairs"])
        train, held_out = (
            Pairs(texts, part(arrays, side), size, plan.seed, plan.pad, ranks) for side in ("train", "held_out")
        )
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: PairBatch) -> Tensor:
        """As ``Objective``: the mean over queries of how surprising the right candidate is among all (nats)."""
        device = device_of(network)
        vectors = network(batch.ids.to(device), batch.mask.to(device))
        count = len(batch.queries)
        queries = gathered(vectors[:count], batch.queries, batch.sizes[0], batch.ranks)
        candidates = gathered(vectors[count : count + len(batch.candidates)], batch.candidates, batch.sizes[1],
                              batch.ranks)  # fmt: skip
        loss = info_nce(queries, candidates, batch.targets.to(device), TEMPERATURE)
        return as_share(loss, batch.ranks)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[HeldOutPairs]) -> dict[str, tuple[float, float]]:
        """As ``Objective``, over queries: the loss among all held-out candidates, the reciprocal rank of the right one
        among them, and how often it comes before the wrong ones that were given with it."""
        sums = dict.fromkeys(("held_out_loss", "held_out_mrr", "held_out_first"), (0.0, 0.0))
        for batch in batches:
            device = device_of(network)
            vectors = torch.cat([network(ids.to(device), mask.to(device)) for ids, mask in batch.chunks])
            count = len(batch.queries)
            theirs = vectors[count : count + len(batch.candidates)]
            candidates = gathered(theirs, batch.candidates, batch.sizes[1], batch.ranks)
            scores = vectors[:count] @ candidates.T
            targets = batch.targets[batch.queries].to(device)
            right = scores.gather(1, targets[:, None])
            ranks = (scores > right).sum(dim=1) + 1
            loss = F.cross_entropy(scores / TEMPERATURE, targets, reduction="sum")
            before = [
                bool((scores[line, torch.from_numpy(others).to(device)] < right[line]).all())
                for line, others in enumerate(batch.own_negatives)
                if len(others)
            ]
            found = ((float(loss), count), (float((1 / ranks).sum()), count), (float(sum(before)), len(before)))
            sums = {name: (sums[name][0] + a, sums[name][1] + b) for name, (a, b) in zip(sums, found, strict=True)}
        return sums


def info_nce(queries: Tensor, candidates: Tensor, targets: Tensor, temperature: float | Tensor) -> Tensor:
    """The mean cross-entropy (nats) of each query's target among all candidates.

    Args:
        queries, candidates: vectors of length 1, [n, d] and [m, d].
        targets: of every query the number of its candidate, [n].
        temperature: what cosines are divided by.
    """
    return F.cross_entropy(queries @ candidates.T / temperature, targets)


def refuse_passes(plan: RunPlan) -> None:
    """Refuse a step in several passes: each would know a part of the wrong answers only.

    Raises:
        UnsupportedError: the plan wants it.
    """
    if plan.micro_tokens:
        raise UnsupportedError(f"train.micro_tokens: {plan.objective} compares all of a step at once; set it to 0")


def gathered(mine: Tensor, places: Tensor, count: int, ranks: Ranks) -> Tensor:
    """All workers' vectors [count, d]; only those of this worker, which stand at ``places``, carry gradients."""
    places = places.to(mine.device)
    everyone = torch.zeros(count, mine.shape[1], dtype=mine.dtype, device=mine.device)
    if ranks.size > 1:
        everyone[places] = mine.detach()
        ranks.add(everyone)
    return everyone.index_copy(0, places, mine)


def as_share(loss: Tensor, ranks: Ranks) -> Tensor:
    """The whole step's loss as the share of one worker: its value counts once over all workers, and its gradient, which
    reaches this worker's vectors only, in full."""
    return loss - loss.detach() * (1 - 1 / ranks.size)


OBJECTIVES: dict[str, Objective] = {"text_pairs": TextPairs()}
