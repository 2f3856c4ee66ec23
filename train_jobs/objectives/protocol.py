"""What a run minimises, as the training loop sees it: data, a network, a loss, and what is reported beside it.

An objective is a module with one object of this protocol; ``load_objective`` finds it by the name that a plan carries,
so that a worker imports only what its run needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cluster.core.errors import IncompatibleError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cluster.core.storage import Store
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer.plan import RunPlan

# Name -> the module whose ``OBJECTIVES`` holds it.
MODULES = {
    "next_token": "train_jobs.objectives.causal_lm",
    "completion": "train_jobs.objectives.causal_lm",
    "text_pairs": "train_jobs.objectives.contrastive",
    "image_text": "train_jobs.objectives.image_text",
    "labels": "train_jobs.objectives.classification",
    "reading": "train_jobs.objectives.reading",
    "masked": "train_jobs.objectives.masked",
    "document_vectors": "train_jobs.objectives.document_vectors",
    "chat": "train_jobs.objectives.chat",
    "preference": "train_jobs.objectives.preference",
    "distillation": "train_jobs.objectives.distillation",
    "asked_passages": "train_jobs.objectives.asked_passages",
}


class Batch(Protocol):
    """One worker's share of a step. Of the whole step, all workers together: ``total`` items that its loss is divided
    by, ``tokens`` read, padding not included."""

    @property
    def total(self) -> int:
        """Items of the whole step that the loss is divided by."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens of the whole step."""
        ...


class Batches(Protocol):
    """Which data make up which step: a pure function of step, rank and number of workers."""

    steps_per_epoch: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Any:
        """The share of ``rank`` in a step (0-based)."""
        ...

    def in_order(self, rank: int = 0, world: int = 1) -> Sequence[Any]:
        """Everything once, for evaluation: equally many batches on every rank."""
        ...


class Objective(Protocol):
    """One way to train a network."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[Any]]:
        """The training batches, and this rank's share of the held-out ones.

        Raises:
            IntegrityError: a file does not match its hash.
        """
        ...

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """The network before training, with random weights that follow from the plan's seed."""
        ...

    def share_of_loss(self, network: nn.Module, batch: Any) -> Tensor:
        """This worker's share of the step's loss: the shares of all workers add up to it.

        Dividing by the step's total, not by the worker's own count, makes any number of workers take the same step.
        """
        ...

    def evaluate(self, network: nn.Module, batches: Sequence[Any]) -> dict[str, tuple[float, float]]:
        """Of each reported figure the sum over this worker's batches and how many it is over, the same names on every
        rank; ``held_out_loss`` is among them."""
        ...


def load_objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        IncompatibleError: this version knows none of that name.
    """
    if name not in MODULES:
        raise IncompatibleError(f"an objective {name!r} is not known to this version: {', '.join(MODULES)} are")
    found: Objective = importlib.import_module(MODULES[name]).OBJECTIVES[name]
    return found
