"""Direct preference optimisation (Rafailov et al. 2023): chosen answers become likelier than rejected ones, measured
against the model that the run starts from.

That reference never changes, so its log-probabilities are computed once, before the first step; no second network
stands beside the trained one.
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
from train_jobs.data.texts import Epochs, Texts, part
from train_jobs.objectives.causal_lm import device_of, read_arrays
from train_jobs.objectives.frozen import frozen_network

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan

AT_ONCE = 16  # pairs whose reference is computed together


@dataclass(frozen=True)
class PreferenceBatch:
    """One worker's pairs: ``ids`` [2n, T], the chosen ones first; ``where`` [k] flat positions whose next token is
    ``targets`` [k] of the answer in line ``lines`` [k]; ``reference`` [2n] log-probabilities. ``total`` counts the
    pairs of the step."""

    ids: Tensor
    where: Tensor
    targets: Tensor
    lines: Tensor
    reference: Tensor
    beta: float
    total: int
    tokens: int


class PreferencePairs:
    """Steps of pairs.

    Args:
        arrays: of ``chosen`` and ``rejected``: ``ids`` and ``starts`` of prompt and answer, ``prompts`` how many tokens
            of them are the prompt's.
        size: pairs of a step; beta: how closely a policy keeps to the reference.
    """

    def __init__(self, arrays: Arrays, size: int, seed: int, pad: int, beta: float) -> None:
        self.beta = beta
        self.sides = [part(arrays, name) for name in ("chosen", "rejected")]
        self.texts = [Texts(side["ids"], side["starts"]) for side in self.sides]
        self.pad, self.epochs = pad, Epochs(len(self.texts[0]), size, seed)
        self.steps_per_epoch = self.epochs.steps_per_epoch
        self.reference = torch.zeros(2, len(self.texts[0]))

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PreferenceBatch:
        """As ``Batches``."""
        return self.of_rows(self.epochs.chosen(step), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[PreferenceBatch]:
        """As ``Batches``."""
        rows = np.arange(len(self.texts[0]))
        return [self.of_rows(rows[i : i + AT_ONCE], rank, world) for i in range(0, len(rows), AT_ONCE)]

    def of_rows(self, rows: Ids, rank: int = 0, world: int = 1) -> PreferenceBatch:
        """The share of ``rank`` in a step of these pairs."""
        mine = rows[rank::world]
        padded = [texts.padded(mine, self.pad)[0] for texts in self.texts]
        width = max(ids.shape[1] for ids in padded)
        ids = np.concatenate(
            [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=self.pad) for one in padded]
        )
        where: list[Ids] = []
        lines: list[Ids] = []
        for number, (texts, side) in enumerate(zip(self.texts, self.sides, strict=True)):
            for place, row in enumerate(mine):
                line = number * len(mine) + place
                counted = np.arange(int(side["prompts"][row]) - 1, int(texts.lengths(row)) - 1)
                where.append(line * width + counted)
                lines.append(np.full(len(counted), line))
        empty = np.zeros(0, dtype=np.int64)
        flat = np.concatenate([*where, empty])
        targets = ids.reshape(-1)[flat + 1] if len(flat) else flat
        tokens = sum(int(texts.lengths(rows).sum()) for texts in self.texts)
        return PreferenceBatch(
            torch.from_numpy(ids), torch.from_numpy(flat), torch.from_numpy(targets),
            torch.from_numpy(np.concatenate([*lines, empty])), self.reference[:, mine].reshape(-1), self.beta,
            len(rows), tokens,
        )  # fmt: skip

    @torch.no_grad()
    def measure_reference(self, network: nn.Module, ranks: Ranks) -> None:
        """Compute the reference's log-probabilities; each worker does its share."""
        found = torch.zeros_like(self.reference, device=ranks.device)
        rows = np.arange(len(self.texts[0]))
        for start in range(0, len(rows), AT_ONCE * ranks.size):
            group = rows[start : start + AT_ONCE * ranks.size]
            mine = group[ranks.rank :: ranks.size]
            if len(mine):
                batch = self.of_rows(group, ranks.rank, ranks.size)
                found[:, mine] = log_probabilities(network, batch).reshape(2, -1)
        self.reference = ranks.add(found).cpu()


class Preference:
    """``preference``; options: ``pairs`` of a step, ``beta``."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[PreferenceBatch]]:
        """As ``Objective``."""
        arrays = read_arrays(plan, store)
        train, held_out = (
            PreferencePairs(part(arrays, side), int(plan.options["pairs"]), plan.seed, plan.pad,
                            float(plan.options["beta"]))
            for side in ("train", "held_out")
        )  # fmt: skip
        reference = frozen_network(plan.model, store, plan.initial, plan.initial_files).to(ranks.device)
        for side in (train, held_out):
            side.measure_reference(reference, ranks)
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: PreferenceBatch) -> Tensor:
        """As ``Objective``: the mean over pairs."""
        return dpo(log_probabilities(network, batch), batch.reference, batch.beta)[0].sum() / max(1, batch.total)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[PreferenceBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``, over pairs: the loss, how often the chosen answer gained more than the rejected one, and by
        how much (nats times beta)."""
        sums, count = [0.0, 0.0, 0.0], 0.0
        for batch in batches:
            if pairs := len(batch.reference) // 2:
                loss, margin = dpo(log_probabilities(network, batch), batch.reference, batch.beta)
                found = (loss.sum(), (margin > 0).sum(), margin.sum())
                sums = [a + float(b) for a, b in zip(sums, found, strict=True)]
                count += pairs
        names = ("held_out_loss", "held_out_accuracy", "held_out_margin")
        return {name: (value, count) for name, value in zip(names, sums, strict=True)}


def log_probabilities(network: nn.Module, batch: PreferenceBatch) -> Tensor:
    """The log-probability (nats) of each answer given its prompt, [2n]."""
    device = device_of(network)
    logits = network(batch.ids.to(device), batch.where.to(device))
    own = -F.cross_entropy(logits, batch.targets.to(device), reduction="none")
    return torch.zeros(len(batch.reference), device=device).index_add(0, batch.lines.to(device), own)


def dpo(policy: Tensor, reference: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Loss and margin of each pair, [n] each, from log-probabilities [2n], the chosen ones first: the loss is
    ``-log sigmoid(margin)``, the margin ``beta * ((chosen - its reference) - (rejected - its reference))``."""
    gained, lost = (policy - reference.to(policy.device)).chunk(2)
    margin = beta * (gained - lost)
    return -F.logsigmoid(margin), margin


OBJECTIVES: dict[str, Objective] = {"preference": Preference()}
