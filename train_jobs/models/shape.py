"""The sizes of a model, and their form in a Hugging Face config.json. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cluster.core.errors import BadInputError, UsageError
from cluster.core.sections.train import TrainSection

INIT_STD = 0.02


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. ``vocab`` is the tokenizer's, special tokens included."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    context: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Numbers in the vector of one attention head; all heads together are as wide as ``hidden``."""
        return self.hidden // self.heads

    @property
    def parameters(self) -> int:
        """How many numbers the weights are, the embeddings, which are tied, counted once."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        block = attention + 3 * self.hidden * self.mlp + 2 * self.hidden
        return self.vocab * self.hidden + self.layers * block + self.hidden

    @classmethod
    def of(cls, section: TrainSection, vocab: int) -> Shape:
        """The shape that the configuration describes.

        Raises:
            UsageError: the sizes do not divide; the message names the fields.
        """
        if section.hidden % section.heads or section.heads % section.kv_heads:
            raise UsageError(
                f"train.hidden={section.hidden} must be a multiple of train.heads={section.heads}, and that of "
                f"train.kv_heads={section.kv_heads}"
            )
        if (section.hidden // section.heads) % 2:
            raise UsageError(f"train.hidden / train.heads = {section.hidden // section.heads} must be even")
        return cls(
            vocab, section.hidden, section.layers, section.heads, section.kv_heads, section.mlp, section.context_tokens
        )

    def to_hugging_face(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """config.json of transformers' LlamaForCausalLM."""
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": self.vocab,
            "hidden_size": self.hidden, "intermediate_size": self.mlp, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
            "max_position_embeddings": self.context, "rope_theta": self.rope_theta, "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu", "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
            "attention_dropout": 0.0, "initializer_range": INIT_STD, "use_cache": True, "torch_dtype": "float32",
            "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad,
        }  # fmt: skip

    @classmethod
    def from_hugging_face(cls, config: dict[str, Any]) -> Shape:
        """The shape in a config.json.

        Raises:
            BadInputError: an architecture or an option this model does not have, by name.
        """
        wanted = {"model_type": "llama", "tie_word_embeddings": True, "hidden_act": "silu"}
        absent = {"attention_bias": False, "mlp_bias": False, "rope_scaling": None, "quantization_config": None}
        wrong = [name for name, value in wanted.items() if config.get(name) != value]
        wrong += [name for name, value in absent.items() if (config.get(name) or value) != value]
        rope = config.get("rope_parameters") or {}  # transformers 5; earlier ones wrote rope_theta beside it
        if rope.get("rope_type", "default") != "default":
            wrong.append("rope_parameters")
        if not wrong and config.get("head_dim") not in (None, config["hidden_size"] // config["num_attention_heads"]):
            wrong.append("head_dim")
        if wrong:
            found = ", ".join(f"{name}={config.get(name)!r}" for name in wrong)
            raise BadInputError(f"cannot train on this model: only plain Llama with tied embeddings, not {found}")
        return cls(
            vocab=config["vocab_size"], hidden=config["hidden_size"], layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"], kv_heads=config["num_key_value_heads"],
            mlp=config["intermediate_size"], context=config["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
            norm_eps=float(config["rms_norm_eps"]),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The sizes by name; ``Shape(**sizes)`` makes the same shape again."""
        return dataclasses.asdict(self)
