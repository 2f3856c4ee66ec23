"""Distillation (Hinton et al. 2015): a student learns the teacher's probabilities of every token, beside the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.models.spec import spec_from
from train_jobs.objectives.causal_lm import device_of
from train_jobs.objectives.chat import Chat, Packed, PackedBatch, open_packed
from train_jobs.objectives.frozen import frozen_network

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan


@dataclass(frozen=True)
class TaughtBatch:
    """A batch, the teacher that is asked about it, and how much of the loss it decides, at which temperature."""

    batch: PackedBatch
    teacher: nn.Module
    weight: float
    temperature: float

    @property
    def total(self) -> int:
        """As ``Batch``."""
        return self.batch.total

    @property
    def tokens(self) -> int:
        """As ``Batch``."""
        return self.batch.tokens


class Taught:
    """Steps of another's batches, each with the teacher."""

    def __init__(self, batches: Packed, teacher: nn.Module, weight: float, temperature: float) -> None:
        self.batches, self.teacher, self.weight, self.temperature = batches, teacher, weight, temperature
        self.steps_per_epoch = batches.steps_per_epoch

    def batch(self, step: int, rank: int = 0, world: int = 1) -> TaughtBatch:
        """As ``Batches``."""
        return TaughtBatch(self.batches.batch(step, rank, world), self.teacher, self.weight, self.temperature)

    def in_order(self, rank: int = 0, world: int = 1) -> list[PackedBatch]:
        """As ``Batches``."""
        return self.batches.in_order(rank, world)


class Distillation(Chat):
    """``distillation``; options: ``teacher`` (its spec), ``teacher_weights`` (their folder), ``teacher_files`` (with
    sha256), ``weight`` and ``temperature``.
    What is reported is the loss on the tokens themselves, as without a teacher."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[PackedBatch]]:
        """As ``Objective``."""
        train, held_out = open_packed(plan, store)
        options = plan.options
        spec = spec_from(options["teacher"])
        teacher = frozen_network(spec, store, options["teacher_weights"], options["teacher_files"])
        taught = Taught(train, teacher, float(options["weight"]), float(options["temperature"]))
        return taught, held_out.in_order(ranks.rank, ranks.size)

    def share_of_loss(self, network: nn.Module, batch: TaughtBatch | PackedBatch) -> Tensor:
        """As ``Objective``: the mean over tokens."""
        if isinstance(batch, PackedBatch):
            return super().share_of_loss(network, batch)
        device, own = device_of(network), batch.batch
        ids, where, targets = (torch.from_numpy(array).to(device) for array in (own.ids, own.where, own.targets))
        segments = None if own.segments is None else torch.from_numpy(own.segments).to(device)
        with torch.no_grad():
            taught = batch.teacher.to(device)(ids, where, segments=segments)
        learnt = network(ids, where, segments=segments)
        return distilled(learnt, taught, targets, batch.weight, batch.temperature) / max(1, batch.total)


def distilled(student: Tensor, teacher: Tensor, targets: Tensor, weight: float, temperature: float) -> Tensor:
    """The sum over tokens of ``weight * T^2 * KL(teacher_T || student_T) + (1 - weight) * cross-entropy`` (nats).

    T^2 keeps the gradients of the first part as large as without a temperature.

    Args:
        student, teacher: logits [n, vocab]; targets: the tokens [n].
    """
    soft = F.kl_div(
        (student / temperature).log_softmax(dim=-1), (teacher / temperature).log_softmax(dim=-1), log_target=True,
        reduction="sum",
    )  # fmt: skip
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets, reduction="sum")


OBJECTIVES: dict[str, Objective] = {"distillation": Distillation()}
