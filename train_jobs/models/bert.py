"""A BERT encoder that can be trained (Devlin et al. 2018), with transformers' names and results.

``data_jobs.retrieval.bert`` computes the same forward pass where nothing is learnt: without modules, its products
joined, also in 8-bit integers. A test holds the two and transformers to the same output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from torch import Tensor, nn

from data_jobs.retrieval.bert import token_counts

if TYPE_CHECKING:
    from train_jobs.models.encoders import EncoderSpec

# A document encoder's are its teacher's.
EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")


class Embeddings(nn.Module):
    """Words, positions and token types, normalised: ids [B, T] to [B, T, hidden]."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        size, settings = int(spec.settings["hidden_size"]), spec.settings
        self.word_embeddings = nn.Embedding(int(settings["vocab_size"]), size)
        self.position_embeddings = nn.Embedding(int(settings["max_position_embeddings"]), size)
        self.token_type_embeddings = nn.Embedding(int(settings.get("type_vocab_size", 2)), size)
        self.LayerNorm = nn.LayerNorm(size, eps=float(settings.get("layer_norm_eps", 1e-12)))
        self.dropout = nn.Dropout(0.0)

    def forward(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        """As the class says; without ``types`` [B, T] all tokens are of the first, as where embedders are served."""
        kinds = self.token_type_embeddings
        places = self.position_embeddings.weight[: ids.shape[1]] + (kinds.weight[0] if types is None else kinds(types))
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + places))


class SelfAttention(nn.Module):
    """Attention of every token to every real one: [B, T, hidden] to the same."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        size = int(spec.settings["hidden_size"])
        self.heads, self.attention_dropout = int(spec.settings["num_attention_heads"]), 0.0
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))

    def forward(self, x: Tensor, attend: Tensor | None) -> Tensor:
        """``attend``: bool [B, 1, 1, T], the tokens that may be seen; None for all."""
        q, k, v = (
            part(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        rate = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=rate)
        return mixed.transpose(1, 2).flatten(2)


class Joined(nn.Module):
    """A layer's output, projected, added to what went in, and normalised."""

    def __init__(self, spec: EncoderSpec, inputs: int) -> None:
        super().__init__()
        size = int(spec.settings["hidden_size"])
        self.dense = nn.Linear(inputs, size)
        self.LayerNorm = nn.LayerNorm(size, eps=float(spec.settings.get("layer_norm_eps", 1e-12)))
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """``x`` [B, T, inputs] and ``residual`` [B, T, hidden] to [B, T, hidden]."""
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class Layer(nn.Module):
    """One layer, normalised after each part: [B, T, hidden] to the same."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        size, inner = int(spec.settings["hidden_size"]), int(spec.settings["intermediate_size"])
        self.attention = nn.ModuleDict({"self": SelfAttention(spec), "output": Joined(spec, size)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, inner)})
        self.output = Joined(spec, inner)

    def forward(self, x: Tensor, attend: Tensor | None) -> Tensor:
        """As ``SelfAttention``."""
        x = self.attention["output"](self.attention["self"](x, attend), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Merge(nn.Module):
    """The states of n adjacent tokens as one: [B, T, hidden] to [B, ceil(T / n), hidden]; at first their mean."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        size = int(spec.settings["hidden_size"])
        self.merge = spec.merge
        self.dense = nn.Linear(self.merge * size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=float(spec.settings.get("layer_norm_eps", 1e-12)))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Also which states hold a real token, from which tokens are real."""
        counts = token_counts(mask, self.merge)
        x = F.pad(x * mask.unsqueeze(-1), (0, 0, 0, -x.shape[1] % self.merge))
        x = self.dense(x.reshape(len(x), -1, self.merge * x.shape[2]))
        return self.LayerNorm(x * (self.merge / counts.clamp(min=1)).unsqueeze(-1)), counts > 0


class Predictions(nn.Module):
    """Scores of the tokens that a hidden state may stand for, over embeddings that are the input's."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        size = int(spec.settings["hidden_size"])
        norm = nn.LayerNorm(size, eps=float(spec.settings.get("layer_norm_eps", 1e-12)))
        self.transform = nn.ModuleDict({"dense": nn.Linear(size, size), "LayerNorm": norm})
        self.bias = nn.Parameter(torch.zeros(spec.vocab))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """``hidden`` [n, hidden] and the embeddings [vocab, hidden] to scores [n, vocab]."""
        return F.linear(self.transform["LayerNorm"](F.gelu(self.transform["dense"](hidden))), words, self.bias)


class Bert(nn.Module):
    """The encoder with the head its spec asks for.

    ``forward(ids [B, T], mask, where)``: ``mask`` bool [B, T], True for real tokens, None where nothing is padded;
    ``where`` flat positions [n] into B*T, for ``tokens`` only. Gives float32: vectors [B, hidden] of length 1 (the mean
    of the real tokens' states), scores [B, labels] of that mean, or scores [n, vocab].
    """

    def __init__(self, spec: EncoderSpec, seed: int = 0) -> None:
        super().__init__()
        self.head, self.spec = spec.head, spec
        self.embeddings = Embeddings(spec)
        layers = (Layer(spec) for _ in range(int(spec.settings["num_hidden_layers"])))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        if spec.head == "labels":
            self.dropout = nn.Dropout(0.0)
            self.classifier = nn.Linear(int(spec.settings["hidden_size"]), spec.labels)
        elif spec.head == "tokens":
            self.predictions = Predictions(spec)
        elif spec.head == "states":
            size = int(spec.settings["hidden_size"])
            self.merge, self.projection = Merge(spec), nn.Linear(size, size)
            for name in EMBEDDINGS:
                getattr(self.embeddings, name).requires_grad_(False)
        self._initialise(float(spec.settings.get("initializer_range", 0.02)), seed)

    def hidden(self, ids: Tensor, mask: Tensor | None, types: Tensor | None = None) -> Tensor:
        """The last layer's states [B, T, hidden]."""
        x = self.embeddings(ids, types)
        if self.head == "states":
            x, mask = self.merge(x, torch.ones_like(ids, dtype=torch.bool) if mask is None else mask)
        attend = None if mask is None else mask[:, None, None, :]
        for layer in self.encoder["layer"].children():
            x = layer(x, attend)
        return x

    def forward(self, ids: Tensor, mask: Tensor | None = None, where: Tensor | None = None) -> Tensor:
        """As the class says."""
        hidden = self.hidden(ids, mask)
        if self.head == "states":
            return self.projection(hidden).float()
        if self.head == "tokens":
            flat = hidden.flatten(0, 1)
            words = self.embeddings.word_embeddings.weight
            return self.predictions(flat if where is None else flat[where], words).float()
        pooled = mean_of(hidden, mask)
        if self.head == "labels":
            return self.classifier(self.dropout(pooled)).float()
        return F.normalize(pooled.float(), dim=-1)

    def _initialise(self, std: float, seed: int) -> None:
        """Normal(0, ``std``) matrices, zero biases, norms of 1; the same on every machine."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in sorted(self.named_parameters()):
                if weight.is_meta:
                    continue
                if weight.dim() >= 2:
                    weight.normal_(0.0, std, generator=generator)
                else:
                    weight.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
                if name in ("merge.dense.weight", "projection.weight"):  # the mean, and nothing
                    one = torch.eye(len(weight), device=weight.device)
                    weight.copy_(one.repeat(1, weight.shape[1] // len(weight)) * len(weight) / weight.shape[1])


def mean_of(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The mean [B, hidden] of the real tokens' states [B, T, hidden]."""
    if mask is None:
        return hidden.mean(dim=1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
