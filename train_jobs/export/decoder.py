"""What a Hugging Face checkpoint must be for the OpenVINO graph to compute exactly what it describes.

A closed list of decoder architectures that differ only in biases and in norms of queries and keys. Everything else, and
every setting that would change the arithmetic without changing a tensor's shape, is refused by name: such a model is
still served by the transformers engine.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError, IntegrityError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Decoder:
    """The numbers of one decoder-only transformer."""

    architecture: str
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    context: int
    rms_eps: float
    rope: dict[str, Any]
    tied: bool
    biases: frozenset[str]
    query_key_norms: bool

    def inverse_frequencies(self) -> np.ndarray:
        """RoPE's inverse frequencies, float32 [head_dim / 2]; scaling as in Llama 3.1's reference code."""
        import torch

        # In torch's arithmetic, not numpy's: the last bit decides over equality with transformers.
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.int64).to(dtype=torch.float) / self.head_dim
        frequencies = 1.0 / (float(self.rope["rope_theta"]) ** exponents)
        if self.rope["rope_type"] == "linear":
            frequencies /= self.rope["factor"]
        if self.rope["rope_type"] == "llama3":
            frequencies = _llama3(frequencies, self.rope)
        return frequencies.numpy()


def _llama3(frequencies: Any, rope: dict[str, Any]) -> Any:
    import torch

    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    wavelengths = 2 * math.pi / frequencies
    scaled = torch.where(wavelengths > old / low, frequencies / rope["factor"], frequencies)
    smooth = (old / wavelengths - low) / (high - low)
    between = (1 - smooth) * scaled / rope["factor"] + smooth * scaled
    middle = ~(wavelengths < old / high) * ~(wavelengths > old / low)
    return torch.where(middle, between, scaled)


def read_decoder(folder: Path) -> Decoder:
    """Read config.json.

    Raises:
        BadInputError: no config, or one that lacks or contradicts what the architecture needs.
        UnsupportedError: an architecture or a setting the graph does not compute.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(f"{folder} holds no readable config.json: {error}") from error
    architectures = config.get("architectures") or [None]
    architecture = architectures[0]
    if architecture not in ARCHITECTURES:
        raise UnsupportedError(
            f"cannot convert architecture {architecture!r}: the converter knows {', '.join(ARCHITECTURES)}; "
            "serve it on transformers (serve.tiers.NAME.engine=transformers)",
            architecture=architecture,
        )
    _refuse_unknown_settings(config)
    try:
        heads = int(config["num_attention_heads"])
        decoder = Decoder(
            architecture=architecture,
            vocab=int(config["vocab_size"]),
            hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            mlp=int(config["intermediate_size"]),
            context=int(config["max_position_embeddings"]),
            rms_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope=_rope(config),
            tied=bool(config.get("tie_word_embeddings", False)),
            biases=_biases(config, architecture),
            query_key_norms=architecture == "Qwen3ForCausalLM",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"{folder}/config.json is no complete {architecture} configuration: {error!r}") from error
    if decoder.heads % decoder.kv_heads or decoder.head_dim % 2:
        raise BadInputError(f"{folder}/config.json: heads must be a multiple of kv heads, and head_dim even")
    return decoder


def _refuse_unknown_settings(config: dict[str, Any]) -> None:
    if config.get("auto_map"):
        raise UnsupportedError("the model brings code of its own (auto_map), which is never run")
    if config.get("quantization_config"):
        raise UnsupportedError("quantised checkpoints cannot be converted: convert the original weights")
    if config.get("hidden_act", "silu") != "silu":
        raise UnsupportedError(f"cannot convert activation {config['hidden_act']!r}: the converter knows silu")
    window = config.get("sliding_window")
    used = config.get("use_sliding_window", config["architectures"][0] == "MistralForCausalLM")
    if used and window and window < config.get("max_position_embeddings", 0):
        raise UnsupportedError(f"cannot convert sliding-window attention (sliding_window={window})")


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """RoPE settings; transformers 5 writes rope_parameters, older ones rope_theta and rope_scaling."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10_000.0))
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    if rope["rope_type"] not in ROPE_TYPES:
        raise UnsupportedError(
            f"cannot convert rope scaling {rope['rope_type']!r}: the converter knows {', '.join(ROPE_TYPES)}"
        )
    if rope.get("partial_rotary_factor", 1) != 1:
        raise UnsupportedError("cannot convert rotary embeddings of a part of the head (partial_rotary_factor)")
    wanted = {"linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
    for key in wanted.get(rope["rope_type"], ()):
        rope[key] = float(rope[key])
    if rope["rope_type"] == "llama3":
        rope.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    return rope


def read_tensors(folder: Path, decoder: Decoder) -> dict[str, np.ndarray]:
    """Every weight the graph needs as float32, and nothing left over; names without the ``model.`` prefix.

    Raises:
        BadInputError: no safetensors (pickles are never read), missing tensors or wrong shapes.
        IntegrityError: a truncated or damaged file.
        UnsupportedError: tensors the graph would leave out.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    raw: dict[str, torch.Tensor] = {}
    for path in _weight_files(folder):
        try:
            raw.update(load_file(path))
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"{path} is damaged or truncated: {error}", path=str(path)) from error
    tensors = {name.removeprefix("model."): tensor for name, tensor in raw.items()}
    if decoder.tied:
        tensors.pop("lm_head.weight", None)  # the same tensor saved under both names
    wanted = shapes(decoder)
    ignored = ("rotary_emb.inv_freq",)
    left_over = sorted(n for n in tensors if n not in wanted and not n.endswith(ignored))
    if left_over:
        raise UnsupportedError(f"the checkpoint holds tensors the converter would ignore: {', '.join(left_over[:5])}")
    for name, shape in wanted.items():
        if name not in tensors:
            raise BadInputError(f"the checkpoint in {folder} lacks the tensor {name}")
        if tuple(tensors[name].shape) != shape:
            found = tuple(tensors[name].shape)
            raise BadInputError(f"{name} in {folder} has shape {found}, config.json asks for {shape}")
        if not tensors[name].is_floating_point():
            raise UnsupportedError(f"{name} is {tensors[name].dtype}: quantised checkpoints cannot be converted")
    return {name: tensors[name].to(torch.float32).contiguous().numpy() for name in wanted}


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        if not (folder / "model.safetensors").exists():
            raise BadInputError(f"{folder} holds no model.safetensors: only safetensors are read, never pickles")
        return [folder / "model.safetensors"]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInputError(f"{index} is no index of shards: {error!r}") from error
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BadInputError(f"{index} names {name!r}, which is no safetensors file of this folder")
        if not (folder / name).exists():
            raise BadInputError(f"{folder} lacks {name}, which its index names")
    return [folder / name for name in names]


def shapes(d: Decoder) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the architecture."""
    query, key = d.heads * d.head_dim, d.kv_heads * d.head_dim
    found: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (d.vocab, d.hidden), "norm.weight": (d.hidden,)}
    if not d.tied:
        found["lm_head.weight"] = (d.vocab, d.hidden)
    products = {
        "self_attn.q_proj": (query, d.hidden), "self_attn.k_proj": (key, d.hidden), "self_attn.v_proj": (key, d.hidden),
        "self_attn.o_proj": (d.hidden, query), "mlp.gate_proj": (d.mlp, d.hidden), "mlp.up_proj": (d.mlp, d.hidden),
        "mlp.down_proj": (d.hidden, d.mlp),
    }  # fmt: skip
    norms = {"input_layernorm": d.hidden, "post_attention_layernorm": d.hidden}
    if d.query_key_norms:
        norms |= {"self_attn.q_norm": d.head_dim, "self_attn.k_norm": d.head_dim}
    for layer in range(d.layers):
        for name, shape in products.items():
            found[f"layers.{layer}.{name}.weight"] = shape
            if name.rpartition(".")[2] in d.biases:
                found[f"layers.{layer}.{name}.bias"] = shape[:1]
        for name, width in norms.items():
            found[f"layers.{layer}.{name}.weight"] = (width,)
    return found


def _biases(config: dict[str, Any], architecture: str) -> frozenset[str]:
    """Which products add a bias: fixed in Qwen 2, set by config.json in Llama and Qwen 3, none in Mistral."""
    attention, mlp = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    if architecture == "Qwen2ForCausalLM":
        return frozenset(attention[:3])
    if architecture == "MistralForCausalLM":
        return frozenset()
    with_mlp = architecture == "LlamaForCausalLM" and config.get("mlp_bias")
    return frozenset((*(attention if config.get("attention_bias") else ()), *(mlp if with_mlp else ())))
