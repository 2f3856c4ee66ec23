"""How the training workers of one run find each other: gloo, through a file where they are on one machine.

Ray's own TorchConfig starts torch's TCP store, which listens on every interface and asks nobody for a password. On one
machine a file does the same, and gloo's own sockets are bound to the loopback device. Besides, this module does not
import torch, so Ray Train's controller need not either (seconds of every start).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

LOOPBACK_DEVICE = "lo"


@dataclass
class GlooConfig(BackendConfig):
    """Backend configuration for a TorchTrainer.

    Attributes:
        backend: what torch calls it.
        folder: where the rendezvous file goes; empty where workers may be on several machines (torch's TCP store then).
        timeout_s: how long a collective operation may take before its worker gives up.
    """

    backend: str = "gloo"
    folder: str = ""
    timeout_s: int = 120

    @property
    def backend_cls(self) -> type[GlooBackend]:
        """Tells Ray Train which class sets up workers that are configured like this."""
        return GlooBackend


class GlooBackend(Backend):
    """Makes the workers one process group before the training function starts."""

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Join all workers of the group in one gloo process group; a single worker needs none.

        Raises:
            TypeError: the configuration is of another backend.
        """
        if not isinstance(backend_config, GlooConfig):
            raise TypeError(f"GlooBackend wants a GlooConfig, not {type(backend_config).__name__}")
        size = len(worker_group)
        if size == 1:
            return
        if backend_config.folder:
            # A new file for every attempt: torch does not take one that a killed group left behind.
            where = f"file://{backend_config.folder}/rendezvous-{secrets.token_hex(4)}"
        else:
            where = f"tcp://{worker_group.execute_single(0, _address)}"
        backend, timeout_s = backend_config.backend, backend_config.timeout_s
        ray.get([
            worker_group.execute_single_async(rank, _join, backend, where, rank, size, timeout_s)
            for rank in range(size)
        ])  # fmt: skip

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Have the workers leave their process group, for at most 5 s; workers that died are passed over."""
        del backend_config
        if len(worker_group) > 1:
            with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                ray.get(worker_group.execute_async(_leave), timeout=5)


def _address() -> str:
    """An address of this worker's node with a port that is free now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"


def _join(backend: str, where: str, rank: int, size: int, timeout_s: int) -> None:
    import torch.distributed

    if where.startswith("file:"):
        os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK_DEVICE
    torch.distributed.init_process_group(
        backend, init_method=where, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=timeout_s)
    )


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
