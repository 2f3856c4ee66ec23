"""FLOPs against torch's own counter, and where peaks come from."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from train_jobs.models.llama import Llama
from train_jobs.models.shape import Shape
from train_jobs.planning.flops import flops_per_token, listed_memory, listed_peak, measured_peak, mfu
from train_jobs.planning.sizes import Sizes

SHAPE = Shape(vocab=300, hidden=64, layers=2, heads=4, kv_heads=2, mlp=160, context=64)


def test_matrix_products_are_those_of_a_real_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each product with a weight has two of its size in the backward pass: by its input and by the weight."""
    model, sizes = Llama(SHAPE), Sizes.of(SHAPE)
    ids = torch.randint(0, SHAPE.vocab, (2, SHAPE.context))
    linear, seen = F.linear, []

    def counting(x, weight, bias=None):
        seen.append(2 * x.numel() * weight.shape[0])
        return linear(x, weight, bias)

    monkeypatch.setattr(F, "linear", counting)
    model(ids)
    tokens = 2 * SHAPE.context
    flat = dataclasses.replace(sizes, parameters=sizes.parameters - (2 * SHAPE.layers + 1) * SHAPE.hidden)  # no norms
    assert tokens * flops_per_token(flat, 0) == 3 * sum(seen)


def test_attention_counts_the_half_that_is_needed() -> None:
    sizes = Sizes.of(SHAPE)
    attention = flops_per_token(sizes, 64) - flops_per_token(sizes, 0)
    forward = 2 * 2 * SHAPE.hidden * 64 * SHAPE.layers  # scores and their products with v, all of them
    assert attention == 3 * forward / 2


def test_positions_that_predict_nothing_cost_no_logits() -> None:
    sizes = Sizes.of(SHAPE)
    saved = flops_per_token(sizes, 64) - flops_per_token(sizes, 64, predicted=0.25)
    assert saved == 0.75 * 6 * SHAPE.vocab * SHAPE.hidden


def test_an_untied_embedding_is_looked_up() -> None:
    untied = Sizes(1000, 64, 2, 4, 4, 16, 128, 64, tied=False)
    tied = dataclasses.replace(untied, tied=True, parameters=0)
    assert untied.parameters - tied.parameters == 64_000
    assert flops_per_token(untied, 64) == flops_per_token(tied, 64)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H200", 989), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA-A10G", 70),
     ("NVIDIA A100-SXM4-80GB", 312), ("Tesla T4", 65), ("NVIDIA L40S", 362), ("NVIDIA L4", 121)],
)  # fmt: skip
def test_listed_devices(name: str, tflops: float) -> None:
    assert listed_peak(name) == tflops * 1e12


def test_unknown_devices_have_no_listed_peak() -> None:
    assert listed_peak("AMD EPYC") is listed_memory("AMD EPYC") is None
    assert listed_memory("NVIDIA A100-SXM4-80GB") == 80e9
    assert mfu(1000.0, 1e9, 0.0) == 0.0
    assert mfu(1000.0, 1e9, 4e12) == 0.25


def test_a_measured_peak_is_no_less_than_a_product_takes() -> None:
    import time

    peak = measured_peak(seconds=0.05, threads=1)
    assert torch.get_num_threads() >= 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, started = torch.randn(512, 512), time.perf_counter()
        torch.matmul(a, a)
        assert 2 * 512**3 / (time.perf_counter() - started) < 3 * peak
    finally:
        torch.set_num_threads(before)
