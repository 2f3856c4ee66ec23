"""Planned bytes against those of real models, optimizers and backward passes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from cluster.core.errors import BadInputError
from train_jobs.models.llama import Llama, parameter_count
from train_jobs.models.shape import Shape
from train_jobs.planning.memory import SHARDINGS, Layout, activations, advice, logits, memory
from train_jobs.planning.sizes import Sizes
from train_jobs.trainer.optimizer import make_optimizers

SHAPE = Shape(vocab=500, hidden=64, layers=3, heads=4, kv_heads=2, mlp=176, context=128)
LLAMA_7B = Sizes(32_000, 4096, 32, 32, 32, 128, 11_008, 4096, tied=False)


def bytes_of(tensors) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@pytest.fixture(scope="module")
def stepped() -> tuple[Llama, torch.optim.Optimizer, dict[str, int]]:
    """A model after one step, and the bytes that autograd kept: weights, logits' part, all else."""
    model = Llama(SHAPE)
    (optimizer,) = make_optimizers("adamw", model, (), 1e-3)
    weights = {w.untyped_storage().data_ptr() for w in model.parameters()}
    weights |= {b.untyped_storage().data_ptr() for b in model.buffers()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(0, SHAPE.vocab, (4, SHAPE.context + 1))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(model(ids[:, :-1]).reshape(-1, SHAPE.vocab), ids[:, 1:].reshape(-1))
    wide = [t for t in kept.values() if t.shape[-1:] == (SHAPE.vocab,)]
    rest = [t for p, t in kept.items() if p not in weights and t.shape[-1:] != (SHAPE.vocab,)]
    loss.backward()
    optimizer.step()
    return model, optimizer, {"logits": bytes_of(wide), "activations": bytes_of(rest)}


def test_weights_gradients_and_optimizer_are_those_of_a_real_step(stepped) -> None:
    model, optimizer, _ = stepped
    planned = memory(Sizes.of(SHAPE), Layout(rank_tokens=512, context=128))
    assert planned.weights == bytes_of(model.parameters())
    assert planned.gradients == bytes_of([w.grad for w in model.parameters()])
    state = [value for each in optimizer.state.values() for value in each.values() if value.dim()]
    assert planned.optimizer == bytes_of(state)


def test_activations_are_what_autograd_keeps(stepped) -> None:
    *_, kept = stepped
    layout = Layout(rank_tokens=4 * SHAPE.context, context=SHAPE.context)
    assert activations(Sizes.of(SHAPE), layout) == pytest.approx(kept["activations"], rel=0.05)
    assert kept["logits"] <= logits(Sizes.of(SHAPE), layout) <= 3 * kept["logits"]


def test_checkpointing_and_chunks_lower_what_grows_with_depth_and_vocabulary() -> None:
    plain = Layout(rank_tokens=4096)
    low = dataclasses.replace(plain, checkpointing=True, logits_chunk=512)
    assert activations(LLAMA_7B, low) < activations(LLAMA_7B, plain) / 8
    assert logits(LLAMA_7B, low) == logits(LLAMA_7B, plain) / 8


def test_seven_billion_take_what_the_papers_say() -> None:
    """16 bytes a parameter in mixed precision (Rajbhandari et al. 2020), a rank's share under each stage of ZeRO."""
    n, ranks = LLAMA_7B.parameters, 8
    assert n == 6_738_415_616

    def held(sharding) -> int:
        found = memory(LLAMA_7B, Layout(sharding, ranks, precision="bf16", device="cuda"))
        return found.weights + found.gradients + found.optimizer

    assert held("zero1") == pytest.approx(4 * n + 12 * n / ranks)
    assert held("zero2") == pytest.approx(2 * n + 14 * n / ranks)
    assert held("zero3") == pytest.approx(16 * n / ranks)
    fp32 = memory(LLAMA_7B, Layout("ddp", ranks))
    assert fp32.weights + fp32.gradients + fp32.optimizer == 16 * n


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_more_ranks_never_take_more(sharding) -> None:
    totals = [memory(LLAMA_7B, Layout(sharding, ranks, precision="bf16")).total for ranks in (2, 4, 8, 64)]
    assert totals == sorted(totals, reverse=True)
    assert (totals[0] > totals[-1]) == (sharding != "ddp")


def test_offloading_moves_bytes_to_the_host() -> None:
    here = memory(LLAMA_7B, Layout("zero3", 8, precision="bf16", device="cuda"))
    away = memory(LLAMA_7B, Layout("zero3", 8, offload=True, precision="bf16", device="cuda"))
    assert away.host == here.optimizer > 0
    assert away.total == here.total - here.optimizer


def test_advice_is_enough_or_none() -> None:
    layout = Layout("ddp", 8, precision="bf16", rank_tokens=16_384, context=2048, device="cuda")
    assert memory(LLAMA_7B, layout).total > 80e9
    said = advice(LLAMA_7B, layout, int(80e9))
    assert "shard the model (fsdp2)" in said
    assert advice(LLAMA_7B, layout, int(1e9)) == []


def test_sizes_of_other_architectures() -> None:
    gpt2 = {"model_type": "gpt2", "vocab_size": 50_257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
            "activation_function": "gelu_new"}  # fmt: skip
    sizes = Sizes.from_hugging_face(gpt2)
    assert (sizes.mlp, sizes.gated, sizes.tied) == (3072, False, True)
    assert sizes.parameters == pytest.approx(124_439_808, rel=0.01)  # without its positions and biases
    assert Sizes.from_hugging_face(gpt2, 124_439_808).parameters == 124_439_808
    ours = SHAPE.to_hugging_face(0, 1, 2)
    assert Sizes.from_hugging_face(ours) == Sizes.of(SHAPE)
    assert Sizes.of(SHAPE).parameters == parameter_count(Llama(SHAPE))
    with pytest.raises(BadInputError, match="num_hidden_layers"):
        Sizes.from_hugging_face({"vocab_size": 5, "hidden_size": 4, "num_attention_heads": 2, "n_ctx": 8})
