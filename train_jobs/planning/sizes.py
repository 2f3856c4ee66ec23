"""The sizes of a decoder that planning reckons with, whatever the model is called. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.core.errors import BadInputError
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec, ModelSpec

# What the architectures of Hugging Face call the same size.
NAMES = {
    "vocab": ("vocab_size",),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "context": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
}
UNGATED = {"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "quick_gelu"}
GATED_GELU = ("gemma",)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder.

    Attributes:
        vocab, hidden, layers, heads, kv_heads, mlp, context: as in ``models.shape.Shape``.
        head_dim: width of one attention head.
        tied: whether the input embedding is the output matrix too.
        gated: whether the feed-forward layer has a gate (three matrices, not two).
        parameters: numbers in all weights, tied ones once; counted from the sizes where it is not given.
    """

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    context: int
    tied: bool = True
    gated: bool = True
    parameters: int = 0

    def __post_init__(self) -> None:
        if not self.parameters:
            counted = self.embedding * (1 if self.tied else 2) + self.layers * self.block + self.hidden
            object.__setattr__(self, "parameters", counted)

    @property
    def embedding(self) -> int:
        """Numbers in the input embedding."""
        return self.vocab * self.hidden

    @property
    def block(self) -> int:
        """Numbers in one transformer block: attention, feed-forward layer, two norms."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + (3 if self.gated else 2) * self.hidden * self.mlp + 2 * self.hidden

    @property
    def multiplied(self) -> int:
        """Weights that each token is multiplied with: all but an input embedding, which is looked up. A tied one counts
        once, as the output matrix."""
        return self.parameters - (0 if self.tied else self.embedding)

    @classmethod
    def of(cls, shape: Shape) -> Sizes:
        """The sizes of the project's own model."""
        return cls(
            shape.vocab, shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.mlp,
            shape.context, parameters=shape.parameters,
        )  # fmt: skip

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any], parameters: int = 0) -> Sizes:
        """The sizes in the config.json of a decoder.

        Args:
            parameters: how many the model has, where that is known (its biases and norms are not counted from sizes).

        Raises:
            BadInputError: a size is missing; the message names it.
        """
        found = {size: int(next((config[n] for n in names if config.get(n)), 0)) for size, names in NAMES.items()}
        if missing := [NAMES[size][0] for size, value in found.items() if not value]:
            raise BadInputError(f"the model's config.json has no {', '.join(missing)}: no decoder that can be planned")
        hidden, heads = found["hidden"], found["heads"]
        activation = str(config.get("hidden_act") or config.get("activation_function") or "silu")
        kind = str(config.get("model_type", ""))
        return cls(
            vocab=found["vocab"], hidden=hidden, layers=found["layers"], heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            mlp=int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden),
            context=found["context"], tied=bool(config.get("tie_word_embeddings", True)),
            gated=activation not in UNGATED or kind.startswith(GATED_GELU), parameters=parameters,
        )  # fmt: skip


def sizes_of(model: ModelSpec) -> Sizes:
    """The sizes of a model before it is built.

    Raises:
        BadInputError: its config.json lacks one.
    """
    if isinstance(model, LlamaSpec):
        return Sizes.of(model.shape)
    return Sizes.from_hugging_face(model.config(0, 0, 0), model.parameters)
