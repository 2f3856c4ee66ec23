"""How the workers of a run hold one network together: each the whole (``ddp``), or a part (``fsdp2``, ``deepspeed``).

A strategy owns where weights, gradients and the optimizer's state are. The loop hands it a network and shares of a
loss; checkpoints see the state through ``Shard``: whatever the strategy, a tensor is a flat range of numbers, of which
each rank holds some. So a checkpoint written by one strategy on some workers is read by another on more or fewer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from train_jobs.distributed.ranks import Ranks

Optimizers = list[torch.optim.Optimizer]
Stored = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # what a checkpoint holds: name -> shape and type


@dataclass(frozen=True)
class Settings:
    """How a network is held and computed. ``zero_stage`` and ``offload`` are DeepSpeed's: what is cut into parts (1:
    optimizer, 2: gradients too, 3: weights too), and whether the optimizer's state stays in the host's memory.
    ``recompute`` trades a second forward pass through each block for the memory of its activations."""

    precision: str = "fp32"
    max_norm: float = 1.0
    zero_stage: int = 2
    offload: bool = False
    recompute: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Shard:
    """The part of a tensor that this rank holds.

    Attributes:
        local: those numbers, [n], sharing memory with the tensor.
        start: of the first one in the tensor flattened; shape: of the whole tensor.
        replicated: every rank holds the same.
    """

    local: Tensor
    start: int
    shape: tuple[int, ...]
    replicated: bool = False


class Strategy:
    """One network on this rank, whole; subclasses share it with the other ranks.

    ``network`` is called to train (through it gradients are shared), ``model`` to evaluate.
    """

    starts_empty: ClassVar[bool] = False  # ranks after the first may hand in a network without weights (device meta)

    def __init__(self, ranks: Ranks, settings: Settings) -> None:
        self.ranks, self.settings, self.device = ranks, settings, ranks.device
        self.model: nn.Module
        self.network: nn.Module
        self.optimizers: Optimizers = []

    def prepare(
        self, network: nn.Module, blocks: Sequence[nn.Module], factory: Callable[[nn.Module], Optimizers]
    ) -> None:
        """Take a network over: to this rank's device, in parts where the strategy has them, with its optimizers."""
        for block in blocks:
            if self.settings.recompute:
                # An attribute of the instance: names of weights stay as they are.
                block.forward = functools.partial(recomputed, block.forward, use_reentrant=False)
            if self.settings.compile:
                block.compile()
        self._share(network, blocks, factory)

    def _share(
        self, network: nn.Module, blocks: Sequence[nn.Module], factory: Callable[[nn.Module], Optimizers]
    ) -> None:
        del blocks
        self.model = self.network = network.to(self.device)
        self.optimizers = factory(network)

    def exchange(self, now: bool) -> None:
        """Say before a forward pass whether its backward pass ends with the exchange of gradients: the last one of a
        step does."""

    def backward(self, share: Tensor) -> None:
        """Add the gradients of this rank's share of the step's loss."""
        (share * self.ranks.size).backward()  # the exchange divides by the number of workers

    def step(self, factor: float) -> Tensor:
        """Clip the gradients to ``max_norm``, take the optimizers' step at ``factor`` times their peak learning rates,
        and drop the gradients. Returns the norm of all gradients before clipping, on the device."""
        norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_norm))
        for optimizer in self.optimizers:
            set_rates(optimizer, factor)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    # -- what checkpoints hold -----------------------------------------------------------------------------------------
    def frozen(self) -> frozenset[str]:
        """Names of the weights that are not trained."""
        return frozenset(name for name, weight in self.model.named_parameters() if not weight.requires_grad)

    def weights(self, without: Collection[str] = ()) -> dict[str, Shard]:
        """This rank's part of every weight, but some, and every buffer that belongs to the model, by name."""
        kept = self.model.state_dict(keep_vars=True)
        names = {name for name, _ in self.model.named_parameters() if name not in without}
        names |= {name for name, _ in self.model.named_buffers() if name in kept}
        return {name: self._shard(tensor) for name, tensor in kept.items() if name in names}

    def optimizer_state(self) -> dict[str, Shard]:
        """This rank's part of the optimizers' state, as ``<weight>/<what>``."""
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        return {
            f"{names[id(weight)]}/{what}": self._shard(value)
            for optimizer in self.optimizers
            for weight, state in optimizer.state.items()
            for what, value in state.items()
        }

    def allocate(self, stored: Stored) -> None:
        """Make room for the optimizer's state that a checkpoint holds, before it is copied in."""
        wanted: dict[str, dict[str, Any]] = {}
        for key, entry in stored.items():
            name, _, what = key.rpartition("/")
            wanted.setdefault(name, {})[what] = entry
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
                if states := wanted.get(names[id(weight)]):
                    optimizer.state[weight] = {w: _room(weight, *entry) for w, entry in states.items()}

    def loaded(self) -> None:
        """The shards were filled from a checkpoint."""

    def _shard(self, tensor: Tensor) -> Shard:
        return Shard(tensor.detach().view(-1), 0, tuple(tensor.shape), replicated=True)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over ranks, as a plain one."""
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found.detach()


def _room(weight: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor for a piece of state: spread like its weight where it has its shape."""
    if tuple(weight.shape) == shape:
        return torch.zeros_like(weight, dtype=dtype, requires_grad=False)
    return torch.zeros(shape, dtype=dtype, device=weight.device)
