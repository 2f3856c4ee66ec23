"""Conversion computes what transformers computes, and refuses by name what it would not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import BadInputError, IntegrityError, UnsupportedError
from tests.serve_apps.engines.models import VOCAB, random_llama, text_ids, train
from train_jobs.export.agreement import probes
from train_jobs.export.decoder import read_decoder
from train_jobs.export.openvino_graph import export, verify

process = pytest.mark.process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hf")
    random_llama(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@process
def test_512_of_512_tokens_random_weights(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "ov")
    agreement = verify(folder, tmp_path / "ov")
    assert (agreement.equal, agreement.total) == (512, 512)
    assert agreement.margin > 1e-5, "closer than float32 can tell: choose another seed"


@pytest.mark.slow
@pytest.mark.ci
@process
def test_512_of_512_tokens_trained(tmp_path: Path) -> None:
    """On prompts it has seen a beginning of, on noise, and on one token; default widths of ``config.train``."""
    model = random_llama(
        tmp_path / "hf", vocab_size=4096, hidden_size=160, intermediate_size=448, num_hidden_layers=4,
        max_position_embeddings=512,
    )  # fmt: skip
    assert train(model, 60) < 1.0
    model.save_pretrained(tmp_path / "hf")
    export(tmp_path / "hf", tmp_path / "ov")
    prompts = [text_ids("Licensor shall"), text_ids("the copyright owner or entity"), text_ids("a"), [4095, 7, 4000]]
    for given in (prompts * 2, None):
        agreement = verify(tmp_path / "hf", tmp_path / "ov", given, 64)
        assert (agreement.equal, agreement.total) == (512, 512)


@process
def test_verify_sees_another_model(folder: Path, copy: Path, tmp_path: Path) -> None:
    """A test of the test: one changed weight matrix and the tokens differ."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1.5
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    export(copy, tmp_path / "ov")
    agreement = verify(folder, tmp_path / "ov")
    assert agreement.total == 512
    assert not agreement.exact


LLAMA3 = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip


@process
@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"attention_bias": True, "mlp_bias": True},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "head_dim": 32},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
        {"rope_parameters": LLAMA3},
        {"rms_norm_eps": 1e-3},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_llama_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    model = random_llama(tmp_path / "hf", **changes)
    move_away_from_init(model, tmp_path / "hf")
    export(tmp_path / "hf", tmp_path / "ov")
    assert verify(tmp_path / "hf", tmp_path / "ov", new_tokens=24).exact


def move_away_from_init(model: Any, folder: Path) -> None:
    """Norms of ones and biases of zeros would hide a norm or a bias that was left out."""
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                tensor += 0.3 * torch.randn(tensor.shape, generator=generator)
    model.save_pretrained(folder)


@process
@pytest.mark.parametrize("name", ["Mistral", "Qwen2", "Qwen3"])
def test_other_architectures(name: str, tmp_path: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(2)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=VOCAB, hidden_size=96, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=24, max_position_embeddings=256, initializer_range=0.06, pad_token_id=0,
    )  # fmt: skip
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    move_away_from_init(model, tmp_path / "hf")
    export(tmp_path / "hf", tmp_path / "ov")
    assert verify(tmp_path / "hf", tmp_path / "ov", new_tokens=24).exact


@process
def test_shards_and_bfloat16(folder: Path, tmp_path: Path) -> None:
    """Weights over several files, in the type most hubs publish."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "hf", max_shard_size="200KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    export(tmp_path / "hf", tmp_path / "ov")
    assert verify(tmp_path / "hf", tmp_path / "ov", new_tokens=24).exact


@process
def test_what_is_written(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "ov")
    names = {path.name for path in (tmp_path / "ov").iterdir()}
    assert {"openvino_model.xml", "openvino_model.bin", "config.json", "generation_config.json"} <= names


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"architectures": ["GPT2LMHeadModel"]}, UnsupportedError, "GPT2LMHeadModel"),
    ({"architectures": None}, UnsupportedError, "None"),
    ({"auto_map": {"AutoModelForCausalLM": "own.M"}}, UnsupportedError, "auto_map"),
    ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedError, "quantised"),
    ({"hidden_act": "gelu"}, UnsupportedError, "gelu"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, UnsupportedError, "yarn"),
    ({"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, UnsupportedError, "dynamic"),
    ({"architectures": ["MistralForCausalLM"], "sliding_window": 64}, UnsupportedError, "sliding"),
    ({"num_hidden_layers": 4}, BadInputError, "lacks the tensor layers.3"),
    ({"num_hidden_layers": 2}, UnsupportedError, "ignore: layers.2"),
    ({"vocab_size": VOCAB + 8}, BadInputError, "shape"),
    ({"num_attention_heads": 3}, BadInputError, "multiple"),
    ({"hidden_size": "wide"}, BadInputError, "configuration"),
    ({"attention_bias": True}, BadInputError, "bias"),
]


@process
@pytest.mark.parametrize(("changes", "error", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused_by_name(copy: Path, tmp_path: Path, changes: dict[str, Any], error: type, words: str) -> None:
    edit(copy, **changes)
    with pytest.raises(error, match=words):
        export(copy, tmp_path / "ov")
    assert not (tmp_path / "ov").exists()


def cut(folder: Path) -> None:
    with open(folder / "model.safetensors", "r+b") as handle:
        handle.truncate((folder / "model.safetensors").stat().st_size // 2)


def pickled(folder: Path) -> None:
    import torch

    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickle_by_another_name(folder: Path) -> None:
    import torch

    torch.save({}, folder / "model.safetensors")


def wandering_index(folder: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@process
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (cut, IntegrityError),
        (pickled, BadInputError),
        (pickle_by_another_name, IntegrityError),
        (wandering_index, BadInputError),
    ],
)
def test_damaged_or_dangerous(copy: Path, tmp_path: Path, damage: Callable[[Path], None], error: type) -> None:
    damage(copy)
    with pytest.raises(error):
        export(copy, tmp_path / "ov")


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"config\.json"):
        read_decoder(tmp_path)


def test_probes_fit() -> None:
    found = probes(vocab=100, context=80, new_tokens=64)
    assert len(found) == 8
    assert {len(found[0]), len(found[-1])} == {1, 16}
    assert all(0 <= token < 100 for prompt in found for token in prompt)
    with pytest.raises(BadInputError):
        probes(vocab=100, context=64, new_tokens=64)
