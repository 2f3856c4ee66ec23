"""Every rank holds the whole network; gradients are averaged (torch's DistributedDataParallel)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from train_jobs.distributed.strategy import Optimizers, Strategy


class Ddp(Strategy):
    """For models whose weights, gradients and optimizer state (16 bytes a weight with AdamW) fit one device."""

    def _share(
        self, network: nn.Module, blocks: Sequence[nn.Module], factory: Callable[[nn.Module], Optimizers]
    ) -> None:
        super()._share(network, blocks, factory)
        # Buffers are the same everywhere, as they follow from the seed: sent once, not at every step.
        self.shared = DistributedDataParallel(network, gradient_as_bucket_view=True, forward_sync_buffers=False)
        self.network = self.shared

    def exchange(self, now: bool) -> None:
        """As ``Strategy``."""
        self.shared.require_backward_grad_sync = now  # what its no_sync() sets
