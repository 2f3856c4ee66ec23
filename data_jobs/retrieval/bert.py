"""The forward pass of BERT encoders in plain torch (Devlin et al. 2018, post-layer-norm, absolute positions).

Why not transformers' BertModel for this one architecture: importing its modelling code takes 6-7 s in every process
that embeds (each embedding actor, each retriever replica), this takes none, and a test holds both to the same output.
Every other architecture goes through transformers (``embedder.py``).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

# How much of a channel's range moves from the activations, which share one scale, to the weights, which have a scale
# each: of 0.5, 0.7, 0.8 and 0.9 the vectors stay nearest to those of fp32 at 0.7 (mean cosine 0.992; 0.983 without).
# What the widest layer gives differs most from token to token: a scale for each token there makes it 0.997.
SMOOTHING = 0.7
PRODUCTS = ("qkv", "out", "up", "down")


def supported(config: dict[str, Any]) -> bool:
    """Whether this forward pass computes exactly what the model's config.json describes."""
    return (
        config.get("model_type") == "bert"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("hidden_act", "gelu") == "gelu"
        and not config.get("is_decoder", False)
    )


class BertEncoder:
    """Token ids to hidden states.

    With ``merge_tokens`` n above 1 in its config, each n adjacent tokens become one state before the first layer, so
    that every layer works on a row n times shorter: what a document encoder is made of
    (``train_jobs/recipes/document_encoder.py``).

    Args:
        config: the parsed config.json.
        tensors: the checkpoint; names may carry a ``bert.`` prefix. Pooler weights are ignored.
        dtype: arithmetic of the matrix products; residuals and layer norms stay in fp32.
        device: where to run. See ``quantize`` for 8-bit integers on a CPU.
    """

    def __init__(
        self, config: dict[str, Any], tensors: dict[str, torch.Tensor], dtype: torch.dtype, device: str
    ) -> None:
        self.heads = int(config["num_attention_heads"])
        self.layers = int(config["num_hidden_layers"])
        self.eps = float(config.get("layer_norm_eps", 1e-12))
        self.dtype = dtype
        wanted = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
        self.norms = {n: t.float().to(device) for n, t in wanted.items() if "LayerNorm" in n}
        embeddings = "embeddings.{}_embeddings.weight"
        self.words = wanted[embeddings.format("word")].float().to(device)
        # Mostly the token type is always 0, so its row joins the positions once; others are told apart from it.
        types = wanted[embeddings.format("token_type")].float()
        self.positions = (wanted[embeddings.format("position")].float() + types[0]).to(device)
        self.types = (types - types[0]).to(device)
        self.merge = int(config.get("merge_tokens", 1))
        self.joins = {
            name: wanted[name].float().to(device)
            for name in ("merge.dense.weight", "merge.dense.bias", "projection.weight", "projection.bias")
            if self.merge > 1
        }
        self.blocks = [self._block(wanted, f"encoder.layer.{i}.", device) for i in range(self.layers)]
        self._quantized: list[dict[str, Int8Linear]] = []
        self._seen: dict[tuple[int, str], torch.Tensor] | None = None

    def _block(self, tensors: dict[str, torch.Tensor], prefix: str, device: str) -> dict[str, torch.Tensor]:
        def joined(part: str, *names: str) -> torch.Tensor:
            return torch.cat([tensors[f"{prefix}{n}.{part}"] for n in names]).to(device, self.dtype).contiguous()

        block = {}
        for part in ("weight", "bias"):
            # One product for query, key and value: three times fewer, larger products.
            block[f"qkv.{part}"] = joined(part, *(f"attention.self.{n}" for n in ("query", "key", "value")))
            block[f"out.{part}"] = joined(part, "attention.output.dense")
            block[f"up.{part}"] = joined(part, "intermediate.dense")
            block[f"down.{part}"] = joined(part, "output.dense")
        return block

    def quantize(self, samples: Sequence[torch.Tensor], types: Sequence[torch.Tensor] = ()) -> None:
        """Multiply in 8-bit integers from now on: about 1.3 times as fast on a CPU with AVX2 only.

        Weights are quantised once, per output channel; activations per call, after SmoothQuant's scaling (Xiao et al.
        2022), whose channel ranges are read off a pass over ``samples`` (token ids, int64 [1, tokens]; ``types`` as
        many token types, or none). fp32 weights are let go.
        """
        ranges: dict[tuple[int, str], torch.Tensor] = {}
        self._seen = ranges
        for number, ids in enumerate(samples):
            self(ids, None, types[number] if types else None)
        self._seen = None
        self._quantized = [
            {n: Int8Linear(block[f"{n}.weight"], block[f"{n}.bias"], ranges[i, n], n == "down") for n in PRODUCTS}
            for i, block in enumerate(self.blocks)
        ]
        self.blocks = []

    def _product(self, layer: int, name: str, x: torch.Tensor) -> torch.Tensor:
        if self._quantized:
            return self._quantized[layer][name](x)
        if self._seen is not None:
            highest = x.abs().amax(dim=(0, 1))
            self._seen[layer, name] = torch.maximum(highest, self._seen.get((layer, name), highest))
        block = self.blocks[layer]
        return F.linear(x.to(self.dtype), block[f"{name}.weight"], block[f"{name}.bias"])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.norms[f"{name}.LayerNorm.weight"], self.norms[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self.eps)

    @torch.inference_mode()
    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None, types: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states of the last layer, fp32 [batch, tokens, dim]; [batch, ceil(tokens / n), dim] of merged tokens.

        Args:
            ids: token ids, int64 [batch, tokens].
            mask: bool [batch, tokens], True for real tokens; None where nothing is padded.
            types: token types, int64 [batch, tokens]; None for all 0.
        """
        batch, tokens = ids.shape
        x = self.words[ids] + self.positions[:tokens]
        x = self._norm(x if types is None else x + self.types[types], "embeddings")
        if self.merge > 1:
            x, mask = self._merged(x, mask)
            tokens = x.shape[1]
        attend = None if mask is None else mask[:, None, None, :]
        for i in range(self.layers):
            qkv = self._product(i, "qkv", x)
            q, k, v = qkv.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend).transpose(1, 2).flatten(2)
            mixed = self._product(i, "out", mixed)
            x = self._norm(x + mixed, f"encoder.layer.{i}.attention.output")
            up = F.gelu(self._product(i, "up", x))
            x = self._norm(x + self._product(i, "down", up), f"encoder.layer.{i}.output")
        if self.merge > 1:
            x = F.linear(x, self.joins["projection.weight"], self.joins["projection.bias"])
        return x

    def _merged(self, x: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The states of ``merge`` tokens each, and which of them hold a real one."""
        batch, tokens, dim = x.shape
        if missing := -tokens % self.merge:
            mask = torch.ones((batch, tokens), dtype=torch.bool, device=x.device) if mask is None else mask
            x, mask = F.pad(x, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        if mask is not None:
            real = token_counts(mask, self.merge)
            x = x * mask.unsqueeze(-1)
            mask = real > 0
        x = F.linear(
            x.view(batch, -1, self.merge * dim), self.joins["merge.dense.weight"], self.joins["merge.dense.bias"]
        )
        if mask is not None:  # where padding takes part, the rest speaks louder
            x = x * (self.merge / real.clamp(min=1)).unsqueeze(-1)
        return self._norm(x, "merge"), mask


SCALE = ".scale"


def packed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights for a file: matrices as int8 with one scale for each row (``name.scale``, fp32), vectors as they are: a
    fourth as large."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() != 2:
            found[name] = tensor.float().contiguous()
            continue
        scale = (tensor.float().abs().amax(dim=1) / 127).clamp(min=1e-8)
        found[name] = (tensor.float() / scale[:, None]).round().clamp(-127, 127).to(torch.int8).contiguous()
        found[name + SCALE] = scale.contiguous()
    return found


def unpacked(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that were ``packed``, fp32; others as they are.

    Raises:
        ValueError: 8-bit weights without their scale, which are no numbers by themselves.
    """
    bare = [name for name, tensor in tensors.items() if tensor.dtype == torch.int8 and name + SCALE not in tensors]
    if bare:
        raise ValueError(f"{bare[0]} has no {SCALE.strip('.')}")
    return {
        name: tensor.float() * tensors[name + SCALE].view(-1, 1) if name + SCALE in tensors else tensor.float()
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def token_counts(mask: torch.Tensor, merge: int) -> torch.Tensor:
    """How many real tokens each state stands for: bool [batch, tokens] to int64 [batch, ceil(tokens / merge)]."""
    return F.pad(mask, (0, -mask.shape[1] % merge)).view(len(mask), -1, merge).sum(-1)


class Int8Linear:
    """A linear layer in 8-bit integers (FBGEMM): int8 weights per output channel, activations quantised as they come.

    Args:
        weight, bias: fp32 [outputs, inputs] and [outputs].
        highest: fp32 [inputs], the largest magnitude that each input was seen with.
        by_token: give each token a scale of its own. Without, one token with a large activation takes precision from
            every text of its batch, and a vector depends on its company.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, highest: torch.Tensor, by_token: bool) -> None:
        weight = weight.float()
        own = weight.abs().amax(dim=0).clamp(min=1e-5)
        smooth = (highest.clamp(min=1e-5) ** SMOOTHING / own ** (1 - SMOOTHING)).clamp(min=1e-4)
        self._inverse = 1 / smooth
        weight = weight * smooth
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-8)
        values = (weight / scales[:, None]).round().clamp(-127, 127).to(torch.int8)
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch means to drop its quantised tensors; it is pinned, and its other 8-bit products are slow on AVX2.
            warnings.simplefilter("ignore", UserWarning)
            packed: Any = torch._make_per_channel_quantized_tensor(values, scales.double(), zeros, 0)
        self._bias = bias.float() if by_token else None
        without = torch.zeros_like(bias, dtype=torch.float32)
        self._packed: Any = torch.ops.quantized.linear_prepack(packed, without if by_token else bias.float())

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """fp32 [..., inputs] -> fp32 [..., outputs]."""
        x = x * self._inverse
        if self._bias is None:
            found: torch.Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, True)
            return found
        # The largest magnitude; torch's infinity norm takes ten times as long.
        scale = torch.maximum(x.amax(-1, keepdim=True), -x.amin(-1, keepdim=True)).clamp_(min=1e-6)
        return torch.addcmul(self._bias, torch.ops.quantized.linear_dynamic(x.div_(scale), self._packed, True), scale)


def int8_supported() -> bool:
    """Whether this build of torch multiplies 8-bit integers on this CPU (FBGEMM wants AVX2)."""
    return bool(torch.cpu._is_avx2_supported()) and "fbgemm" in torch.backends.quantized.supported_engines
