"""A model as a value: how it is built, cut into parts for sharding, and how its weights become a Hugging Face folder.

What the training loop, the strategies and publication know of a model is this; what a network computes is its own
business. A spec travels to the workers as JSON, so that this module imports no torch before a network is built.
"""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from cluster.core.errors import BadInputError, IncompatibleError
from train_jobs.models.hugging_face import HuggingFaceSpec
from train_jobs.models.lora import LoraSpec
from train_jobs.models.shape import Shape
from train_jobs.publishing.model_folder import refuse_settings

if TYPE_CHECKING:
    from torch import Tensor, nn

# Networks that are no language models, by the kind of their spec.
ENCODERS = {"encoder": "EncoderSpec", "towers": "TowersSpec", "question_map": "QuestionMapSpec"}
ENCODERS_MODULE = "train_jobs.models.encoders"


class ModelSpec(Protocol):
    """A causal language model before it has weights.

    Its network's ``forward(ids [B, T], where [n] = None, segments [B, T] = None, targets [n] = None)`` gives float32
    logits [..., vocab], at all positions or only at ``where`` (flat positions into B*T); with ``targets`` instead the
    sum of their cross-entropies (nats). ``segments`` numbers the documents that are packed in a row: none sees another,
    and each begins at position 0.
    """

    kind: ClassVar[str]

    @property
    def vocab(self) -> int:
        """Size of the vocabulary, special tokens included."""
        ...

    @property
    def context(self) -> int:
        """The longest row, in tokens."""
        ...

    @property
    def parameters(self) -> int:
        """How many numbers the weights are, tied ones counted once."""
        ...

    def build(self, seed: int = 0, device: str = "cpu") -> nn.Module:
        """A network with random weights that follow from ``seed`` alone; on ``meta`` without any."""
        ...

    def materialise(self, network: nn.Module, device: str) -> None:
        """Give a network that was built on ``meta`` memory on ``device``; its weights are still to be filled in, what
        it computes from its config alone (rotary tables) is there."""
        ...

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """The layers of a network that are sharded, and recomputed in the backward pass, one by one."""
        ...

    def to_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the network's names under the names that transformers gives them."""
        ...

    def from_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The reverse."""
        ...

    def config(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """config.json of the Hugging Face folder."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, from which ``spec_from`` makes the same spec."""
        ...


@dataclass(frozen=True)
class LlamaSpec:
    """The project's own Llama (``llama.py``): the fast path on a CPU, without transformers."""

    shape: Shape
    kind: ClassVar[str] = "llama"

    @property
    def vocab(self) -> int:
        """As ``ModelSpec``."""
        return self.shape.vocab

    @property
    def context(self) -> int:
        """As ``ModelSpec``."""
        return self.shape.context

    @property
    def parameters(self) -> int:
        """As ``ModelSpec``."""
        return self.shape.parameters

    def build(self, seed: int = 0, device: str = "cpu") -> nn.Module:
        """As ``ModelSpec``."""
        import torch

        from train_jobs.models.llama import Llama

        with torch.device(device):
            return Llama(self.shape, seed)

    def materialise(self, network: nn.Module, device: str) -> None:
        """As ``ModelSpec``."""
        from train_jobs.models.llama import rope_tables

        network.to_empty(device=device)
        for buffer, values in zip((network.cos, network.sin), rope_tables(self.shape), strict=True):
            buffer.copy_(values)  # type: ignore[operator]

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """As ``ModelSpec``."""
        return list(network.model.layers)  # type: ignore[union-attr, arg-type]

    def to_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The names are transformers' already."""
        return state

    def from_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The names are transformers' already."""
        return state

    def config(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """As ``ModelSpec``."""
        return self.shape.to_hugging_face(bos, eos, pad)

    def to_dict(self) -> dict[str, Any]:
        """As ``ModelSpec``."""
        return {"kind": self.kind, **self.shape.to_dict()}


def spec_from(row: dict[str, Any]) -> ModelSpec:
    """The spec that ``ModelSpec.to_dict`` wrote.

    Raises:
        IncompatibleError: a kind this version does not know.
    """
    rest = {name: value for name, value in row.items() if name != "kind"}
    if row.get("kind") in ENCODERS:
        found: ModelSpec = getattr(importlib.import_module(ENCODERS_MODULE), ENCODERS[row["kind"]])(**rest)
        return found
    if row.get("kind") == LlamaSpec.kind:
        return LlamaSpec(Shape(**rest))
    if row.get("kind") == HuggingFaceSpec.kind:
        return HuggingFaceSpec(**rest)
    if row.get("kind") == LoraSpec.kind:
        return LoraSpec(**{**rest, "base": spec_from(rest["base"])})
    raise IncompatibleError(f"a model of kind {row.get('kind')!r} is not known to this version")


def spec_of_config(config: dict[str, Any], context: int = 0) -> ModelSpec:
    """The spec of a config.json: the own Llama where it computes the same, else transformers' model.

    Args:
        context: the longest row that is wanted, where it is less than the model's.

    Raises:
        PolicyRefusedError, UnsupportedError, BadInputError: as ``HuggingFaceSpec.of``.
    """
    refuse_settings(config)
    try:
        shape = Shape.from_hugging_face(config)
    except BadInputError:
        return HuggingFaceSpec.of(config, context=context)
    return LlamaSpec(dataclasses.replace(shape, context=context) if 0 < context < shape.context else shape)
