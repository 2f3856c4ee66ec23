"""The workers of one run as seen from inside a worker: its rank, how many there are, and what they exchange."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Ranks:
    """This worker among those of its run. A worker that is alone exchanges nothing.

    Args:
        rank: this worker's number, from 0.
        size: how many workers there are.
        threads: how many threads this worker computes with.
        device: what it computes on, as torch names it (``cpu``, ``cuda:3``).
    """

    def __init__(self, rank: int = 0, size: int = 1, threads: int = 1, device: str = "cpu") -> None:
        self.rank, self.size, self.threads, self.device = rank, size, threads, device

    def from_first(self, values: list[float]) -> list[float]:
        """The numbers that rank 0 hands in, on every rank; as many on each."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.broadcast(tensor, src=0)
        return [float(value) for value in tensor]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors (of one shape), in place."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are averaged over the workers."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False)
