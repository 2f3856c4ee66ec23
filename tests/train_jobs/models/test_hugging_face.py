"""Models of transformers behind the project's own signature: the same numbers, packed rows, pieces, folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import BadInputError, EnvironmentFaultError, PolicyRefusedError, UnsupportedError
from train_jobs.models.hugging_face import HuggingFaceSpec, load, source_folder

pytestmark = pytest.mark.process

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16, "rope_theta": 10_000.0}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SIZES, "tie_word_embeddings": False, "rope_parameters": LLAMA3,
              "attention_bias": True},
    "qwen2": {"model_type": "qwen2", **SIZES, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", **SIZES, "head_dim": 16},
    "gemma2": {"model_type": "gemma2", **SIZES, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "gpt_neox": {"model_type": "gpt_neox", **SIZES},
    "phi": {"model_type": "phi", **SIZES, "partial_rotary_factor": 0.5},
    "mistral": {"model_type": "mistral", **SIZES, "sliding_window": 6},
    "mixtral": {"model_type": "mixtral", **SIZES, "num_local_experts": 4, "sliding_window": None},
    "olmo2": {"model_type": "olmo2", **SIZES},
    "gpt2": {"model_type": "gpt2", "vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
             "bos_token_id": 1, "eos_token_id": 2},
    "opt": {"model_type": "opt", "vocab_size": 97, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32},
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_ids(rows: int, length: int, seed: int = 0) -> Any:
    import torch

    return torch.randint(3, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def theirs_like(network: Any, spec: HuggingFaceSpec) -> Any:
    """transformers' own model of the same config, without dropout, with the same weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**spec.settings))
    model.load_state_dict(network.state_dict())
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_its_gradients_and_a_step_are_those_of_transformers(name: str) -> None:
    import torch

    spec = HuggingFaceSpec.of(CONFIGS[name])
    network = spec.build(seed=1)
    assert spec.parameters == sum(p.numel() for p in network.parameters())
    assert (spec.vocab, spec.context, len(spec.blocks(network))) == (97, 64, 2)
    model, ids = theirs_like(network, spec), some_ids(3, 17)
    said = model(input_ids=ids, labels=ids)
    targets = ids[:, 1:].reshape(-1)
    where = torch.arange(ids.numel()).reshape(ids.shape)[:, :-1].reshape(-1)
    loss = network(ids, where, targets=targets)
    torch.testing.assert_close(loss / len(targets), said.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network(ids), said.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(ids, where), said.logits.reshape(-1, 97)[where], rtol=1e-4, atol=1e-5)
    loss.backward()
    (said.loss * len(targets)).backward()
    wanted = dict(model.named_parameters())
    for key, weight in network.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[key].grad, rtol=1e-3, atol=1e-3, msg=key)
    torch.optim.SGD(network.parameters(), lr=0.01 / len(targets)).step()
    assert network(ids, where, targets=targets).item() < loss.item()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "opt"])
def test_documents_packed_into_a_row_say_what_they_say_alone(name: str) -> None:
    import torch

    network = HuggingFaceSpec.of(CONFIGS[name]).build(seed=2)
    one, two, three = (some_ids(1, length, length) for length in (11, 5, 1))
    row = torch.cat([one, two, three, one[:, :3]], dim=1)
    segments = torch.tensor([[0] * 11 + [1] * 5 + [2] + [3] * 3])
    packed = network(torch.cat([row, row]), None, torch.cat([segments, segments]))
    for at, alone in ((0, one), (11, two), (16, three), (17, one[:, :3])):
        torch.testing.assert_close(packed[1:, at : at + alone.shape[1]], network(alone), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(packed[:1, 11:16], network(row)[:, 11:16], atol=1e-3), "the test can tell them apart"


def test_a_model_whose_documents_would_see_each_other_is_refused_by_name() -> None:
    import torch

    config = {"model_type": "bloom", "vocab_size": 97, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    network = HuggingFaceSpec.of(config).build()
    with pytest.raises(UnsupportedError, match="BloomForCausalLM"):
        network(some_ids(1, 8), None, torch.zeros(1, 8, dtype=torch.long))


def test_logits_of_a_whole_batch_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from train_jobs.models import causal_network

    class Largest(TorchDispatchMode):
        rows = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor) and tensor.dim() > 1 and tensor.shape[-1] == 97:
                    self.rows = max(self.rows, tensor.numel() // 97)
            return out

    network = HuggingFaceSpec.of(CONFIGS["gemma2"]).build()
    ids, targets = some_ids(4, 16), some_ids(4, 16, 9).reshape(-1)
    whole = network(ids, None, targets=targets)
    whole.backward()
    wanted = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    monkeypatch.setattr(causal_network, "PIECE_BYTES", 97 * 4 * 10)
    with Largest() as seen:
        loss = network(ids, None, targets=targets)
        loss.backward()
    assert 0 < seen.rows <= 32, "the embedding's gradient of 97 x 32 apart, at most ten rows of logits"
    torch.testing.assert_close(loss, whole)
    for name, weight in network.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mixtral"])
def test_from_meta_to_the_same_model(name: str) -> None:
    import torch

    spec = HuggingFaceSpec.of(CONFIGS[name])
    built, empty = spec.build(seed=3), spec.build(seed=9, device="meta")
    assert all(weight.is_meta for weight in empty.parameters())
    spec.materialise(empty, "cpu")
    with torch.no_grad():
        for weight, wanted in zip(empty.parameters(), built.parameters(), strict=True):
            weight.copy_(wanted)
    ids = some_ids(2, 12)
    assert torch.equal(empty(ids), built(ids))
    assert torch.equal(spec.build(seed=3)(ids), built(ids)), "the seed decides the weights"


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "mixtral"])
def test_a_state_becomes_a_folder_and_the_same_state_again(name: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    spec = HuggingFaceSpec.of(CONFIGS[name])
    network = spec.build(seed=4)
    state = {key: weight.detach() for key, weight in network.named_parameters()}
    (tmp_path / "config.json").write_text(json.dumps(spec.config(1, 2, 0)))
    save_file(spec.to_hugging_face(state), tmp_path / "model.safetensors", metadata={"format": "pt"})
    back = spec.from_hugging_face(load_file(tmp_path / "model.safetensors"))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    model, told = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    ids = some_ids(2, 12)
    torch.testing.assert_close(model.eval()(input_ids=ids).logits, network(ids), rtol=1e-5, atol=1e-6)


def test_a_sharded_folder_of_transformers_is_read_whole(tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tests.train_jobs.publishing.model_folders import byte_tokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**CONFIGS["llama"], "vocab_size": 300}))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    byte_tokenizer(tmp_path)
    folder = source_folder(str(tmp_path), tmp_path / "cache")
    assert len([name for name in folder.files if name.endswith(".safetensors")]) > 2
    spec, state = load(folder)
    network = spec.build()
    network.load_state_dict(state)
    assert spec.parameters == folder.parameters
    ids = some_ids(2, 12)
    torch.testing.assert_close(network(ids), model.eval()(input_ids=ids).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "m.Mine"}}, PolicyRefusedError, "auto_map"),
        ({"model_type": "mamba9"}, UnsupportedError, "mamba9"),
        ({"model_type": "vit"}, UnsupportedError, "vit"),
        ({"quantization_config": {"bits": 4}}, UnsupportedError, "quantised"),
        ({"num_hidden_layers": 10**6}, BadInputError, "num_hidden_layers"),
        ({"num_attention_heads": 5}, BadInputError, "llama"),
        ({"vocab_size": "many"}, BadInputError, "llama"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(change: dict[str, Any], error: Any, named: str) -> None:
    with pytest.raises(error, match=named):
        HuggingFaceSpec.of({**CONFIGS["llama"], **change})


def test_dropout_is_what_the_spec_says_and_the_config_keeps_its_own() -> None:
    import torch

    config = {**CONFIGS["gpt2"], "resid_pdrop": 0.3, "attn_pdrop": 0.3}
    spec = HuggingFaceSpec.of(config)
    network, ids = spec.build(), some_ids(1, 8)
    assert torch.equal(network(ids), network(ids)), "training without dropout is the same each time"
    assert spec.config(1, 2, 0)["resid_pdrop"] == 0.3


def test_a_source_that_is_no_folder_and_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="no folder"):
        source_folder(str(tmp_path / "nothing"), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFaultError, match="owner/name"):
        source_folder("owner/name", tmp_path)
