"""Weights, gradients and optimizer state in parts, block by block (FSDP2: torch.distributed.fsdp.fully_shard).

Only the first rank ever holds the whole network, in its host's memory; the others begin without weights and receive
their parts one weight at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from train_jobs.distributed.strategy import Optimizers, Shard, Strategy


class Fsdp(Strategy):
    """Each rank holds 1/size of everything and gathers a block's weights while it computes with them."""

    starts_empty: ClassVar[bool] = True

    def _share(
        self, network: nn.Module, blocks: Sequence[nn.Module], factory: Callable[[nn.Module], Optimizers]
    ) -> None:
        mesh = init_device_mesh(self.device.type, (self.ranks.size,))
        half = self.settings.precision == "bf16" and self.device.type == "cuda"
        # Weights travel in the type they are computed in; angles of positions keep theirs.
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if half else None, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        first = self.ranks.rank == 0
        values = {name: value.detach() for name, value in _tensors(network).items()} if first else {}
        for module in (*blocks, network):
            fully_shard(module, mesh=mesh, mp_policy=policy)
        network.to_empty(device=self.device)
        with torch.no_grad():
            for name, target in _tensors(network).items():
                self._receive(target, values.pop(name, None))
        self.model = self.network = network
        self.optimizers = factory(network)

    def _receive(self, target: Tensor, value: Tensor | None) -> None:
        """Fill this rank's part of a weight from the first rank's whole one."""
        whole = torch.empty(target.shape, dtype=target.dtype, device=self.device)
        if value is not None:
            whole.copy_(value)
        torch.distributed.broadcast(whole, src=0)
        shard = self._shard(target)
        shard.local.copy_(whole.view(-1)[shard.start : shard.start + shard.local.numel()])

    def exchange(self, now: bool) -> None:
        """As ``Strategy``."""
        self.network.set_requires_gradient_sync(now)  # type: ignore[operator]

    def _shard(self, tensor: Tensor) -> Shard:
        if not isinstance(tensor, DTensor):
            return super()._shard(tensor)
        shape = tuple(tensor.shape)
        with torch.no_grad():
            local = tensor.to_local()
        rows = -(-shape[0] // self.ranks.size)  # of each rank, as torch.chunk cuts them
        start = min(shape[0], rows * self.ranks.rank) * (tensor.numel() // max(1, shape[0]))
        return Shard(local.view(-1), start, shape)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers of a network by name, those included that are no part of its state."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
