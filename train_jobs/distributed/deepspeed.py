"""Optimizer state, gradients and weights in parts by ZeRO's stages 1, 2 and 3 (Rajbhandari et al. 2020; DeepSpeed).

Checkpoints are the project's own, like those of the other strategies, instead of DeepSpeed's pickles: a ZeRO partition
is a flat range of numbers already, and so a run goes on with another stage, number of workers or strategy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cluster.core.errors import IncompatibleError, UsageError
from train_jobs.distributed.strategy import Optimizers, Shard, Stored, Strategy, set_rates

SHARED_MEMORY_OP = "deepspeed_shm_comm"  # compiled at first use: minutes, and a lock that a kill leaves for ever
MOST_SENT = 500_000_000


class Fragment(NamedTuple):
    """Where a rank's part of a weight is: in ``flat`` [n] from ``offset`` on ``numel`` numbers, which are those of the
    weight (of ``shape``, flattened) from ``start`` on."""

    name: str
    shape: tuple[int, ...]
    flat: Tensor
    offset: int
    start: int
    numel: int

    def of(self, tensor: Tensor) -> Shard:
        """The part of the weight in a tensor that is laid out like ``flat``."""
        return Shard(tensor.detach().narrow(0, self.offset, self.numel), self.start, self.shape)


def bucket_of(network: nn.Module) -> int:
    """How many numbers are sent at once: a whole network, at most DeepSpeed's own 500 million, whose buffers of 2 GB on
    each rank are more than many a model that is cut into parts.

    Buckets of one block save a little more; with them two ranks of ZeRO-3 waited for each other once, under load.
    """
    return min(MOST_SENT, sum(weight.numel() for weight in network.parameters()))


class DeepSpeed(Strategy):
    """DeepSpeed's engine with torch's own AdamW, so that nothing has to be compiled."""

    def _share(
        self, network: nn.Module, blocks: Sequence[nn.Module], factory: Callable[[nn.Module], Optimizers]
    ) -> None:
        os.environ.setdefault("DS_ACCELERATOR", self.device.type)
        os.environ["LOCAL_RANK"] = str(self.device.index or 0)  # which GPU of those that are seen
        try:
            import deepspeed
        except ImportError:
            raise IncompatibleError(
                "train.strategy=deepspeed needs the package: pip install 'plinth[deepspeed]' on every node"
            ) from None
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        if not torch.distributed.is_initialized():  # one worker alone: a group of one, without a socket
            torch.distributed.init_process_group(store=torch.distributed.HashStore(), rank=0, world_size=1)
        deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
        optimizers = factory(network.to(self.device))
        if len(optimizers) > 1:
            raise UsageError("train.strategy=deepspeed cuts weights into flat parts and takes train.optimizer=adamw")
        self.engine, self.zero, _, _ = deepspeed.initialize(
            model=network,
            optimizer=optimizers[0],
            config=self._configuration(bucket_of(network)),
            dist_init_required=False,
        )
        self.network, self.model, self.optimizers = self.engine, self.engine.module, optimizers

    def _configuration(self, bucket: int) -> dict[str, Any]:
        zero: dict[str, Any] = {
            "stage": self.settings.zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_prefetch_bucket_size": bucket,
        }
        if self.settings.offload:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": self.device.type == "cuda"}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": self.settings.max_norm,
            "zero_optimization": zero,
            "zero_force_ds_cpu_optimizer": False,
            "torch_autocast": {"enabled": self.settings.precision == "bf16", "dtype": "bfloat16"},
            "steps_per_print": 1 << 40,
        }

    def exchange(self, now: bool) -> None:
        """As ``Strategy``."""
        self.engine.set_gradient_accumulation_boundary(now)

    def backward(self, share: Tensor) -> None:
        """As ``Strategy``."""
        self.engine.backward(share * self.ranks.size)

    def step(self, factor: float) -> Tensor:
        """As ``Strategy``."""
        set_rates(self.zero.optimizer, factor)
        self.engine.step()
        return torch.as_tensor(self.engine.get_global_grad_norm(), device=self.device).detach()

    def weights(self, without: Collection[str] = ()) -> dict[str, Shard]:
        """As ``Strategy``: the float32 master weights."""
        found = {fragment.name: fragment.of(fragment.flat) for fragment in self._fragments()}
        for name, weight in self.model.named_parameters():
            if not weight.requires_grad:
                found[name] = self._frozen(weight)
            elif name not in found:  # other ranks have it
                found[name] = Shard(torch.empty(0), 0, tuple(weight.shape))
        kept = self.model.state_dict(keep_vars=True)
        found |= {name: self._shard(buffer) for name, buffer in self.model.named_buffers() if name in kept}
        return {name: shard for name, shard in found.items() if name not in without}

    def optimizer_state(self) -> dict[str, Shard]:
        """As ``Strategy``."""
        found = {}
        for fragment in self._fragments():
            for what, value in self.zero.optimizer.state.get(fragment.flat, {}).items():
                if value.shape == fragment.flat.shape:
                    found[f"{fragment.name}/{what}"] = fragment.of(value)
                else:  # a count of steps, which every rank has that has a part of the weight
                    found[f"{fragment.name}/{what}"] = Shard(value.view(-1), 0, tuple(value.shape))
        return found

    def allocate(self, stored: Stored) -> None:
        """As ``Strategy``."""
        for fragment in self._fragments():
            state = self.zero.optimizer.state[fragment.flat]
            for key, (shape, dtype) in stored.items():
                name, _, what = key.rpartition("/")
                if name == fragment.name and what not in state:
                    room = fragment.flat.shape if shape == fragment.shape else shape
                    state[what] = torch.zeros(room, dtype=dtype, device=fragment.flat.device)

    def loaded(self) -> None:
        """The network computes with what was copied into the master weights."""
        if self.settings.zero_stage < 3:
            self.zero.update_lp_params()
            return
        for group, flat in enumerate(self.zero.fp32_partitioned_groups_flat):
            self.zero.fp16_partitioned_groups_flat[group].data.copy_(flat.data)
            self.zero._unflatten_partitioned_parameters(group)
        if self.zero.persistent_parameters:
            self.zero.persistent_parameters[0].all_gather(self.zero.persistent_parameters)

    def _fragments(self) -> Iterator[Fragment]:
        """This rank's part of each weight that is trained; none of a weight that other ranks have whole."""
        weights: list[tuple[str, Any]] = [(n, w) for n, w in self.model.named_parameters() if w.requires_grad]
        for name, weight in weights:
            if self.settings.zero_stage < 3:
                if (place := weight._hp_mapping) is not None:
                    flat = self.zero.single_partition_of_fp32_groups[place.param_group_index]
                    mine, its = place.hp_fragment_address, place.lp_fragment_address
                    yield Fragment(name, tuple(weight.shape), flat, mine.start, its.start, its.numel)
                continue
            group, offset, _ = self.zero.grad_position[self.zero.get_param_id(weight)]
            start = weight.ds_tensor.ds_numel * self.ranks.rank  # the last parts are padded
            count = max(0, min(weight.ds_tensor.ds_numel, weight.ds_numel - start))
            flat = self.zero.fp32_partitioned_groups_flat[group]
            yield Fragment(name, tuple(weight.ds_shape), flat, offset, start, count)

    def _frozen(self, weight: Any) -> Shard:
        """A weight that is not trained has no master copy."""
        if self.settings.zero_stage < 3:
            return self._shard(weight)
        part = weight.ds_tensor
        start = part.ds_numel * self.ranks.rank
        count = max(0, min(part.ds_numel, weight.ds_numel - start))
        return Shard(part.detach().view(-1).narrow(0, 0, count), start, tuple(weight.ds_shape))
