"""What a run writes beside its loss: gradient norm, bits per byte, speed against the peak, memory, waiting, time left.

The loop calls ``waiting`` around fetching a batch and ``step`` after each step, neither of which costs more than a look
at the clock; ``row`` once a logged line, which reads ``/proc`` and, on a GPU, the allocator's books.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from train_jobs.planning.flops import mfu

if TYPE_CHECKING:
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.trainer.plan import RunPlan

CAUSAL = ("next_token", "completion", "chat", "preference", "distillation")


@dataclass
class Meters:
    """One rank's meters since the last logged line.

    Attributes:
        flops_per_token: of the model at its context (``planning.flops``); 0: not known, and no MFU is written.
        peak: FLOP/s of the devices of all ranks together; 0: not known. One that was measured while others computed is
            too low: it is never less than what the run itself reached.
        bytes_per_token: bytes of text behind a token, from the training data; 0: not known, and no bits per byte.
        device: where the model computes, as torch names it.
    """

    flops_per_token: float = 0.0
    peak: float = 0.0
    bytes_per_token: float = 0.0
    device: str = "cpu"
    _norms: list[float] = field(default_factory=list)
    _waited: float = 0.0
    _tokens: int = 0
    _since: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what the step waits for that is no computing: the next batch."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - started

    def step(self, tokens: int) -> None:
        """A step of ``tokens`` (all ranks together) is done."""
        self._tokens += tokens

    def read(self, norms: Sequence[float]) -> None:
        """The gradients' norms of some steps, before clipping, have come to the host."""
        self._norms += norms

    def row(self, loss: float | None = None, remaining_s: float | None = None) -> dict[str, float]:
        """What was measured since the last call, by the names of metrics.jsonl; starts a new line.

        ``gradient_norm`` is the mean, ``gradient_norm_max`` the largest; ``data_wait`` the share of the time that was
        waited for data, ``rss_mb`` resident memory of this process, ``cuda_peak_mb`` the most that tensors took on the
        GPU since the last line.

        Args:
            loss: mean loss of these steps, nats a token.
            remaining_s: seconds to the end (``Budget.remaining_s``).
        """
        now = time.perf_counter()
        seconds = max(1e-9, now - self._since)
        found: dict[str, float] = {"data_wait": round(min(1.0, self._waited / seconds), 4)}
        if self._norms:
            found["gradient_norm"] = sum(self._norms) / len(self._norms)
            found["gradient_norm_max"] = max(self._norms)
        if self.flops_per_token and self.peak:
            tokens_per_s = self._tokens / seconds
            self.peak = max(self.peak, tokens_per_s * self.flops_per_token)
            found["mfu"] = round(mfu(tokens_per_s, self.flops_per_token, self.peak), 4)
        if loss is not None and (bits := bits_per_byte(loss, self.bytes_per_token)) is not None:
            found["bits_per_byte"] = bits
        found |= memory_now(self.device)
        if remaining_s is not None and math.isfinite(remaining_s):
            found["eta_s"] = round(remaining_s, 1)
        self._norms, self._waited, self._tokens, self._since = [], 0.0, 0, now
        return found


def bits_per_byte(loss: float, bytes_per_token: float) -> float | None:
    """A loss in nats a token as bits a byte of text, which compares models of different tokenizers; None where the
    bytes are not known."""
    return loss / math.log(2) / bytes_per_token if bytes_per_token > 0 else None


def memory_now(device: str = "cpu") -> dict[str, float]:
    """``rss_mb`` of this process (Linux), and ``cuda_peak_mb`` on a GPU, whose counter starts again."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found["rss_mb"] = round(pages * _page_bytes() / 2**20, 1)
    if device.startswith("cuda"):
        import torch

        found["cuda_peak_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
        torch.cuda.reset_peak_memory_stats(device)
    return found


def meters_of(plan: RunPlan, ranks: Ranks) -> Meters:
    """The meters of a run.

    The peak is that of the accelerator's data sheet; of a device in no table, and of a CPU, that of a matrix product
    measured now (a fifth of a second, once a process). Objectives that predict no next token have no MFU.
    """
    from train_jobs.planning.flops import flops_per_token
    from train_jobs.planning.sizes import sizes_of

    device = str(ranks.device)
    if plan.objective not in CAUSAL:
        return Meters(device=device)
    flops = flops_per_token(sizes_of(plan.model), plan.model.context)
    bytes_per_token = float(plan.options.get("bytes_per_token", 0.0))
    return Meters(flops, ranks.size * peak_of(device, ranks.threads), bytes_per_token, device)


_PEAKS: dict[tuple[str, int], float] = {}


def peak_of(device: str, threads: int) -> float:
    """FLOP/s that one rank's device can reach at most, measured once a process where no table knows it."""
    from train_jobs.planning.flops import listed_peak, measured_peak

    key = (device, threads)
    if key not in _PEAKS:
        listed = None
        if device.startswith("cuda"):
            import torch

            listed = listed_peak(torch.cuda.get_device_name(device))
        precision = "bf16" if device.startswith("cuda") else "fp32"
        _PEAKS[key] = listed or measured_peak(device, precision, threads, seconds=0.2)
    return _PEAKS[key]


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()
