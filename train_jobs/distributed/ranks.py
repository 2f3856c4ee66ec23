"""The workers of one run as seen from inside a worker: its rank, how many there are, and what they exchange."""

from __future__ import annotations

import torch
from torch import Tensor


class Ranks:
    """This worker among those of its run. A worker that is alone exchanges nothing.

    Args:
        rank: this worker's number, from 0.
        size: how many workers there are.
        threads: how many threads this worker computes with.
        local_rank: its number among those of its machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, threads: int = 1, local_rank: int = 0) -> None:
        self.rank, self.size, self.threads, self.local_rank = rank, size, threads, local_rank

    @property
    def device(self) -> torch.device:
        """Where this worker computes: its GPU, unless it has none or its group exchanges over the CPU only.

        Ray shows a worker its own GPU alone or, in the same order to all, those of the machine.
        """
        if not torch.cuda.is_available() or (self.size > 1 and "nccl" not in torch.distributed.get_backend_config()):
            return torch.device("cpu")
        return torch.device("cuda", self.local_rank % torch.cuda.device_count())

    def from_first(self, values: list[float]) -> list[float]:
        """The numbers that rank 0 hands in, on every rank; as many on each."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(tensor, src=0)
        return [float(value) for value in tensor]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors (of one shape), in place."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor
