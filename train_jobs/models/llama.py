"""A Llama-architecture causal language model: the training side of what transformers calls LlamaForCausalLM.

The parameters carry transformers' names and shapes, so a checkpoint written here loads there, and there only: nothing
of this project is needed. It exists because `import transformers` costs each training worker about as many seconds as
torch itself, and because computing logits only where a loss is taken saves a third of fine-tuning. Tests hold it equal
to transformers. Architecture: Touvron et al. 2023 (Llama), RoPE of Su et al. 2021 in the rotate-half form, GQA of
Ainslie et al. 2023, RMSNorm of Zhang and Sennrich 2019.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from torch import Tensor, nn

from train_jobs.models.shape import INIT_STD, Shape


class RMSNorm(nn.Module):
    """Root mean square normalisation of the last dimension (Zhang and Sennrich 2019), [..., hidden]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden))
        self.eps = shape.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """Scale each vector of ``x`` [..., hidden] to a root mean square of 1, then by the learnt weights."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    """Causal grouped-query attention (Ainslie et al. 2023) with rotary positions: [B, T, hidden] to the same."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        size = shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.heads * size, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * size, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * size, bias=False)
        self.o_proj = nn.Linear(shape.heads * size, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x`` [B, T, hidden]; ``cos`` and ``sin`` [T, head_dim / 2] (or [B, 1, T, head_dim / 2]) are those of its
        positions (``rope_tables``). ``mask`` [B, 1, T, T] says which keys a query sees, all before it without one.
        """
        batch, length, _ = x.shape
        size, groups = self.shape.head_dim, self.shape.heads // self.shape.kv_heads
        q = rotate(self.q_proj(x).view(batch, length, -1, size).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(batch, length, -1, size).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(batch, length, -1, size).transpose(1, 2)
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        y = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), mask, is_causal=mask is None)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """The gated feed-forward layer, SwiGLU (Shazeer 2020): [B, T, hidden] to the same."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Each position of ``x`` [B, T, hidden] on its own."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """A transformer layer with normalisation before each part: [B, T, hidden] to the same."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(shape), Attention(shape)
        self.post_attention_layernorm, self.mlp = RMSNorm(shape), MLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention, then the feed-forward layer, each added to ``x`` [B, T, hidden]; the rest as for ``Attention``."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """What a model holds, under the names that transformers gives its weights."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)


class Llama(nn.Module):
    """Causal language model with tied embeddings.

    ``forward(ids [B, T], where)`` returns float32 logits: ``[B, T, vocab]``, or ``[n, vocab]`` when ``where`` (flat
    positions into B*T, [n]) says at which positions they are wanted; with ``targets`` [n] the sum of their
    cross-entropies (nats). Padding goes to the right, where causal attention keeps it from every real token, so no mask
    is needed. ``segments`` [B, T] numbers the documents packed in a row: none sees another, each begins at position 0.
    """

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)
        self._initialise(seed)
        cos, sin = rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, ids: Tensor, where: Tensor | None = None, segments: Tensor | None = None, targets: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Float32 logits of ``ids`` [B, T], or with ``targets`` their summed cross-entropy, at all positions or only at
        ``where``, as the class says; T is at most the context.
        """
        length = ids.shape[1]
        cos, sin, mask = self.cos[:length], self.sin[:length], None  # type: ignore[index]
        if segments is not None:
            places = places_in(segments)[:, None]
            cos, sin, mask = cos[places], sin[places], may_see(segments)
        x = self.model.embed_tokens(ids)
        for block in self.model.layers:
            x = block(x, cos, sin, mask)
        if where is not None:
            x = x.reshape(-1, x.shape[-1])[where]
        logits = F.linear(self.model.norm(x), self.model.embed_tokens.weight).float()
        if targets is None:
            return logits
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets, reduction="sum")

    def _initialise(self, seed: int) -> None:
        """Normal(0, 0.02), residual outputs scaled down by sqrt(2 layers) as in GPT-2; the same on every machine."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in sorted(self.named_parameters()):
            if weight.dim() < 2:
                continue
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = INIT_STD / math.sqrt(2 * self.shape.layers) if residual else INIT_STD
            with torch.no_grad():
                weight.normal_(0.0, std, generator=generator)


def places_in(segments: Tensor) -> Tensor:
    """How many tokens of the same document stand before each token, [B, T]: the position where each begins at 0."""
    place = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return place - torch.where(begins, place, 0).cummax(dim=1).values


def may_see(segments: Tensor) -> Tensor:
    """Which tokens each token attends to, [B, 1, T, T] bool: those of its document up to itself."""
    same = segments[:, None, :, None] == segments[:, None, None, :]
    return same.tril()


def rope_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """cos and sin of every position's angles, [context, head_dim / 2] each."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), shape.rope_theta**-steps)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of [B, heads, T, head_dim] with tables of [T, head_dim / 2], or [B, 1, T, ..].

    The halves are taken by chunk, whose gradient is one cat; slices would fill a zero tensor each.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def parameter_count(model: nn.Module) -> int:
    """How many numbers the model's weights are, tied ones counted once."""
    return sum(weight.numel() for weight in model.parameters())
