"""Differentially private training: DP-SGD (Abadi et al. 2016), with the accountant of opacus.

A step draws every row on its own with a fixed chance (Poisson sampling, which the accountant assumes), takes the
gradient of each row by itself, clips it to a length, adds them up, and adds Gaussian noise. Per-sample gradients are
``torch.func``'s vmap over grad: opacus' own hooks give wrong ones for some networks without a word.

What is protected is one row: a model trained with (epsilon, delta) would have come out nearly as likely without it.
That holds for the weights. Losses on training rows are not protected, and nor is what others can find out about the
random numbers: their seed is drawn anew for every run, and is not published.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cluster.core.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer.plan import RunPlan

OPTION = "privacy"  # among a plan's options
COMPARED = "compared_with_private"  # the same: nothing protects this run, and its books are closed
MOST_BYTES = 256 << 20  # of per-sample gradients held at once


class PrivateObjective(Protocol):
    """What an objective must be able to do to be trained privately, beside being an ``Objective``."""

    def private_rows(self, batch: Any) -> tuple[Tensor, ...]:
        """This worker's rows of a step as tensors of equal first dimension, one line a row."""
        ...

    def loss_of_row(self, call: Callable[..., Tensor], *row: Any) -> Tensor:
        """The loss of one row (its line of each of those tensors); ``call`` is the network's forward."""
        ...


class PrivateBatches(Protocol):
    """Batches whose rows can be drawn one by one."""

    def __len__(self) -> int: ...

    def of_rows(self, rows: Any, rank: int = 0, world: int = 1) -> Any:
        """The share of ``rank`` in a step that consists of these rows."""
        ...

    def in_order(self, rank: int = 0, world: int = 1) -> Sequence[Any]:
        """As ``Batches``."""
        ...


@dataclass(frozen=True)
class Privacy:
    """How a run is made private.

    Attributes:
        epsilon, delta: what it spends, by the PRV accountant (Gopi et al. 2021).
        noise: standard deviation of the noise, in units of ``clip``.
        clip: the longest gradient of one row.
        chance: that a row is in a step.
        seed: of sampling and noise: a secret.
    """

    epsilon: float
    delta: float
    noise: float
    clip: float
    chance: float
    seed: int

    @classmethod
    def for_run(cls, epsilon: float, delta: float, clip: float, rows: int, rows_per_step: int, steps: int) -> Privacy:
        """The least noise that spends at most ``epsilon`` at ``delta`` (0: a tenth of one in so many rows).

        Raises:
            UsageError: there is no such noise, or ``delta`` is no small probability.
        """
        delta = delta or 0.1 / rows
        if delta >= 1 / rows:
            raise UsageError(f"train.dp_delta={delta:g} would give away a whole row: take less than 1 / {rows} rows")
        chance = min(1.0, rows_per_step / rows)
        noise = noise_for(epsilon, delta, chance, steps)
        spent = epsilon_of(noise, chance, steps, delta)
        return cls(spent, delta, noise, clip, chance, secrets.randbits(62))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for a plan's options."""
        return asdict(self)


def epsilon_of(noise: float, chance: float, steps: int, delta: float) -> float:
    """What ``steps`` steps with this noise spend at ``delta`` (the PRV accountant's upper bound)."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise, chance, steps)]
    return float(accountant.get_epsilon(delta))


def noise_for(epsilon: float, delta: float, chance: float, steps: int) -> float:
    """The least noise with which ``steps`` steps spend at most ``epsilon`` at ``delta``, to within a hundredth.

    Raises:
        UsageError: there is none that the accountant can vouch for.
    """
    from opacus.accountants.utils import get_noise_multiplier

    try:
        return float(
            get_noise_multiplier(
                target_epsilon=epsilon, target_delta=delta, sample_rate=chance, steps=steps, accountant="prv",
                epsilon_tolerance=0.01 * min(1.0, epsilon),
            )
        )  # fmt: skip
    except (ValueError, RuntimeError, MemoryError) as error:
        raise UsageError(
            f"train.dp_epsilon={epsilon:g} cannot be kept over {steps} steps ({error}): take fewer, or allow more"
        ) from error


class Poisson:
    """Steps whose rows are drawn one by one, from the batches of an objective; a step may be empty."""

    def __init__(self, batches: PrivateBatches, chance: float, seed: int) -> None:
        self.batches, self.chance, self.seed = batches, chance, seed
        self.steps_per_epoch = max(1, round(1 / chance))

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Any:
        """As ``Batches``."""
        drawn = np.random.default_rng([self.seed, step]).random(len(self.batches)) < self.chance
        return self.batches.of_rows(np.flatnonzero(drawn), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> Sequence[Any]:
        """As ``Batches``."""
        return self.batches.in_order(rank, world)


class PrivateSteps:
    """Takes the place of the loss and its backward pass in a private run.

    Args:
        privacy: how; objective: whose loss; ranks: among whom the rows of a step are dealt out.
        expected: rows that a step has on average, which sums of gradients are divided by.
    """

    def __init__(self, privacy: Privacy, objective: PrivateObjective, ranks: Ranks, expected: float) -> None:
        self.privacy, self.objective, self.ranks, self.expected = privacy, objective, ranks, expected

    def backward(self, network: nn.Module, batch: Any, step: int) -> Tensor:
        """Set every parameter's gradient to the private one, the same on all workers; gives this worker's share of the
        loss (an average over the rows that were expected), which is not private."""
        weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        summed, loss = clipped_sum(network, self.objective, self.objective.private_rows(batch), self.privacy.clip)
        noise = torch.Generator().manual_seed((self.privacy.seed + 7919 * (step + 1)) % (1 << 63))
        for name, weight in weights.items():
            gradient = self.ranks.add(summed[name])
            drawn = torch.empty(weight.shape).normal_(0.0, self.privacy.noise * self.privacy.clip, generator=noise)
            weight.grad = ((gradient + drawn.to(gradient.device)) / self.expected).to(weight.dtype)
        return loss / self.expected


def books_closed(plan: RunPlan) -> bool:
    """Whether losses and gradients of the training rows stay out of the run's books: it is private, or it is the run
    without privacy that a private one is compared with."""
    return bool(plan.options.get(OPTION) or plan.options.get(COMPARED))


def private_steps(plan: RunPlan, objective: Any, batches: Any, ranks: Ranks) -> tuple[PrivateSteps | None, Any]:
    """What makes the plan's steps private, and the batches they take; None and the same batches where it is not asked.

    Raises:
        UnsupportedError: the objective or its data cannot be trained privately.
    """
    if not plan.options.get(OPTION):
        return None, batches
    if not hasattr(objective, "loss_of_row") or not hasattr(batches, "of_rows"):
        raise UnsupportedError(f"the objective {plan.objective} cannot be trained with train.dp_epsilon")
    if plan.strategy != "ddp":
        raise UnsupportedError(f"train.dp_epsilon wants whole networks: train.strategy=ddp, not {plan.strategy}")
    privacy = Privacy(**plan.options[OPTION])
    expected = privacy.chance * len(batches)
    return PrivateSteps(privacy, objective, ranks, expected), Poisson(batches, privacy.chance, privacy.seed)


def gradients_of_rows(
    network: nn.Module, objective: PrivateObjective, rows: tuple[Tensor, ...]
) -> tuple[dict[str, Tensor], Tensor]:
    """Of each row the gradient of its loss by parameter, [rows, *shape], and the losses [rows]."""
    from torch.func import functional_call, grad_and_value, vmap

    weights = {name: weight.detach() for name, weight in network.named_parameters() if weight.requires_grad}

    def loss(own: dict[str, Tensor], *row: Tensor) -> Tensor:
        return objective.loss_of_row(lambda *given: functional_call(network, own, given), *row)

    over = vmap(grad_and_value(loss), in_dims=(None, *(0 for _ in rows)), randomness="different")
    gradients, losses = over(weights, *rows)
    return gradients, losses


def clipped_sum(
    network: nn.Module, objective: PrivateObjective, rows: tuple[Tensor, ...], clip: float
) -> tuple[dict[str, Tensor], Tensor]:
    """The sum over rows of gradients that are no longer than ``clip``, by parameter, and the sum of the losses."""
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    summed = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    device = next(iter(weights.values())).device
    total, size = torch.zeros((), device=device), sum(weight.numel() for weight in weights.values())
    at_once = max(1, MOST_BYTES // (4 * size))
    for start in range(0, len(rows[0]), at_once):
        part = tuple(row[start : start + at_once].to(device) for row in rows)
        gradients, losses = gradients_of_rows(network, objective, part)
        lengths = torch.stack([g.flatten(1).float().norm(dim=1) for g in gradients.values()]).norm(dim=0)
        shrunk = (clip / lengths.clamp(min=1e-12)).clamp(max=1.0)
        for name, gradient in gradients.items():
            summed[name] += torch.einsum("b,b...->...", shrunk, gradient.float())
        total += losses.detach().sum()
    return summed, total
