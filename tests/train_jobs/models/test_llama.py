"""The model is transformers' Llama: the same numbers from the same weights, forward and backward."""

from __future__ import annotations

import pytest

from cluster.core.errors import BadInputError, UsageError
from cluster.core.sections.train import TrainSection
from train_jobs.models.shape import Shape

SHAPES = [
    Shape(vocab=300, hidden=64, layers=2, heads=4, kv_heads=2, mlp=96, context=48),
    Shape(vocab=128, hidden=48, layers=3, heads=3, kv_heads=3, mlp=80, context=32, rope_theta=500_000.0),
    Shape(vocab=128, hidden=64, layers=1, heads=4, kv_heads=1, mlp=32, context=32),
]


@pytest.mark.process
@pytest.mark.parametrize("shape", SHAPES, ids=["grouped", "full", "one-head"])
def test_logits_and_gradients_equal_those_of_transformers(shape: Shape) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from train_jobs.models.llama import Llama, parameter_count

    ours = Llama(shape, seed=3)
    theirs = LlamaForCausalLM(LlamaConfig(**shape.to_hugging_face(1, 2, 0)))
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert unexpected == []
    assert set(missing) <= {"lm_head.weight"}  # tied
    assert parameter_count(ours) == shape.parameters == sum(p.numel() for p in theirs.parameters())
    ids = torch.randint(1, shape.vocab, (3, shape.context), generator=torch.Generator().manual_seed(0))
    logits = ours(ids)
    torch.testing.assert_close(logits, theirs(ids).logits, atol=2e-5, rtol=1e-4)
    for model, out in ((ours, logits), (theirs, theirs(ids).logits)):
        torch.nn.functional.cross_entropy(out[:, :-1].reshape(-1, shape.vocab), ids[:, 1:].reshape(-1)).backward()
        assert model.model.layers[0].self_attn.q_proj.weight.grad is not None
    grads = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, grads[name].grad, atol=2e-5, rtol=1e-3)


@pytest.mark.process
def test_logits_at_some_positions_are_those_of_all() -> None:
    import torch

    from train_jobs.models.llama import Llama

    model = Llama(SHAPES[0])
    ids = torch.randint(0, 300, (2, 10))
    where = torch.tensor([0, 7, 9, 10, 19])
    torch.testing.assert_close(model(ids, where), model(ids).reshape(-1, 300)[where])


@pytest.mark.process
def test_padding_to_the_right_changes_nothing_before_it() -> None:
    import torch

    from train_jobs.models.llama import Llama

    model = Llama(SHAPES[0])
    ids = torch.randint(1, 300, (1, 12))
    padded = torch.nn.functional.pad(ids, (0, 9), value=0)
    torch.testing.assert_close(model(padded)[:, :12], model(ids), atol=1e-5, rtol=1e-4)


@pytest.mark.process
def test_the_seed_decides_the_weights() -> None:
    import torch

    from train_jobs.models.llama import Llama

    one, same, other = (Llama(SHAPES[0], seed).model.embed_tokens.weight for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_shape_survives_its_hugging_face_form() -> None:
    for shape in SHAPES:
        assert Shape.from_hugging_face(shape.to_hugging_face(1, 2, 0)) == shape


def test_rotary_settings_as_transformers_5_writes_them_are_read() -> None:
    config = {**SHAPES[0].to_hugging_face(1, 2, 0), "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}
    del config["rope_theta"]
    assert Shape.from_hugging_face(config).rope_theta == 1e5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, "rope_parameters"),
        ({"head_dim": 32}, "head_dim"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(BadInputError, match=named):
        Shape.from_hugging_face({**SHAPES[0].to_hugging_face(1, 2, 0), **change})


@pytest.mark.parametrize(
    "change", [{"hidden": 100, "heads": 3}, {"heads": 4, "kv_heads": 3}, {"hidden": 36, "heads": 4}]
)
def test_sizes_that_do_not_divide_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"train\.hidden"):
        Shape.of(TrainSection(**change), 512)


@pytest.mark.process
@pytest.mark.parametrize("shape", SHAPES, ids=["grouped", "full", "one-head"])
def test_documents_packed_in_a_row_say_what_they_say_alone(shape: Shape) -> None:
    import torch

    from train_jobs.models.llama import Llama

    model = Llama(shape, seed=1)
    generator = torch.Generator().manual_seed(0)
    rows = [[5, 1, 9, 16], [16, 15], [31]]  # lengths of the documents of each row
    ids = torch.randint(0, shape.vocab, (len(rows), 31), generator=generator)
    segments = torch.stack([torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in rows])
    packed = model(ids, segments=segments)
    alone = [model(part[None])[0] for row, of in zip(ids, rows, strict=True) for part in row.split(of)]
    torch.testing.assert_close(packed.reshape(-1, shape.vocab), torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert (packed - model(ids)).abs().max() > 1e-2  # without segments the documents do see each other


@pytest.mark.process
def test_packed_documents_get_the_gradients_that_they_get_alone() -> None:
    import torch

    from train_jobs.models.llama import Llama

    shape = SHAPES[0]
    packed, alone = Llama(shape, seed=1), Llama(shape, seed=1)
    ids, targets = (torch.randint(0, shape.vocab, (1, 20), generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    segments = torch.tensor([[0] * 7 + [1] * 13])
    packed(ids, segments=segments, targets=targets[0]).backward()
    for part in (slice(0, 7), slice(7, 20)):
        alone(ids[:, part], targets=targets[0, part]).backward()
    for one, other in zip(packed.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)
