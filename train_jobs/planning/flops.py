"""How much arithmetic training is, and what share of a device's peak a run reaches (MFU).

Counted is what the model needs, forward and backward, in floating-point operations (a multiply-add is two):

    6 * weights that a token is multiplied with  +  6 * layers * heads * head_dim * context  a token

The first is Kaplan et al. 2020 without the looked-up embedding. The second is causal attention, of which half of the
scores are never needed: PaLM's formula (Chowdhery et al. 2022, appendix B) counts 12 instead of 6 and gives a higher
MFU for the same speed. What activation checkpointing computes again does not count.
"""

from __future__ import annotations

from typing import Final

from train_jobs.planning.sizes import Sizes

# Dense peak in TFLOP/s of matrix products in bf16 (fp16 where there is no bf16), and GB of memory, from the vendors'
# data sheets (without sparsity). The first name found in a device's name counts, so longer names come first.
ACCELERATORS: Final[dict[str, tuple[float, float]]] = {
    "B200": (2250.0, 180.0),
    "H200": (989.0, 141.0),
    "H100 PCIE": (756.0, 80.0),
    "H100": (989.0, 80.0),
    "A100-SXM4-80GB": (312.0, 80.0),
    "A100 80GB": (312.0, 80.0),
    "A100": (312.0, 40.0),
    "L40S": (362.0, 48.0),
    "A10G": (70.0, 24.0),
    "A10": (125.0, 24.0),
    "L4": (121.0, 24.0),
    "V100": (125.0, 16.0),
    "T4": (65.0, 16.0),
    "RTX 4090": (165.0, 24.0),
}


def flops_per_token(sizes: Sizes, context: int, predicted: float = 1.0) -> float:
    """Floating-point operations of one token's forward and backward pass.

    Args:
        context: tokens in a row.
        predicted: share of the tokens whose next token is predicted: the output matrix works for those only.
    """
    head = sizes.vocab * sizes.hidden
    weights = sizes.multiplied - head + predicted * head
    return 6.0 * weights + 6.0 * sizes.layers * sizes.heads * sizes.head_dim * context


def mfu(tokens_per_s: float, flops_a_token: float, peak: float) -> float:
    """Model FLOPs utilisation: the share of ``peak`` (FLOP/s of all workers' devices together) that a run's arithmetic
    comes to; 0 where no peak is known."""
    return tokens_per_s * flops_a_token / peak if peak > 0 else 0.0


def listed_peak(device: str) -> float | None:
    """FLOP/s of an accelerator by its name, as drivers print it, from ``ACCELERATORS``; None for one not listed."""
    found = _listed(device)
    return found[0] * 1e12 if found else None


def listed_memory(device: str) -> float | None:
    """Bytes of memory of an accelerator by its name; None for one not listed."""
    found = _listed(device)
    return found[1] * 1e9 if found else None


def _listed(device: str) -> tuple[float, float] | None:
    # Ray writes its accelerator types with hyphens, drivers their names with blanks.
    words = device.upper().replace("-", " ")
    padded = f" {words} "
    for name, values in ACCELERATORS.items():
        if f" {name.replace('-', ' ')} " in padded:
            return values
    return None


def measured_peak(device: str = "cpu", precision: str = "fp32", threads: int = 0, seconds: float = 0.3) -> float:
    """FLOP/s of square matrix products on a device, the best of those that fit into ``seconds``: a ceiling that no
    training step reaches.

    Args:
        device: a torch device. precision: ``fp32`` or ``bf16``.
        threads: on a CPU, how many compute (0: as torch is set); the setting is put back.
    """
    import time

    import torch

    size = 1024 if device == "cpu" else 8192
    before = torch.get_num_threads()
    if threads and device == "cpu":
        torch.set_num_threads(threads)
    try:
        a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        best, end = float("inf"), time.perf_counter() + seconds
        rounds = 1 if device == "cpu" else 10
        for warming in (True, False):
            while True:
                _wait(device)
                started = time.perf_counter()
                for _ in range(rounds):
                    torch.matmul(a, a)
                _wait(device)
                took = (time.perf_counter() - started) / rounds
                best = best if warming else min(best, took)
                if warming or time.perf_counter() > end:
                    break
    finally:
        torch.set_num_threads(before)
    return 2.0 * size**3 / best


def _wait(device: str) -> None:
    """Have a CUDA device finish what it was given: its calls return before."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()
