"""The forward pass of BERT encoders in plain torch (Devlin et al. 2018, post-layer-norm, absolute positions).

Why not transformers' BertModel for this one architecture: importing its modelling code takes 6-7 s in every process
that embeds (each embedding actor, each retriever replica), this takes none, and a test holds both to the same output.
Every other architecture goes through transformers (``embedder.py``).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)


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

    Args:
        config: the parsed config.json.
        tensors: the checkpoint; names may carry a ``bert.`` prefix. Pooler weights are ignored.
        dtype: arithmetic of the matrix products; residuals and layer norms stay in fp32.
        device: where to run.
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
        # Single-segment input: the token type is always 0, so its row joins the positions once.
        self.positions = (
            wanted[embeddings.format("position")].float() + wanted[embeddings.format("token_type")].float()[0]
        ).to(device)
        self.blocks = [self._block(wanted, f"encoder.layer.{i}.", device) for i in range(self.layers)]

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

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.norms[f"{name}.LayerNorm.weight"], self.norms[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self.eps)

    @torch.inference_mode()
    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Hidden states of the last layer, fp32 [batch, tokens, dim].

        Args:
            ids: token ids, int64 [batch, tokens].
            mask: bool [batch, tokens], True for real tokens; None where nothing is padded.
        """
        batch, tokens = ids.shape
        x = self._norm(self.words[ids] + self.positions[:tokens], "embeddings")
        attend = None if mask is None else mask[:, None, None, :]
        for i, block in enumerate(self.blocks):
            qkv = F.linear(x.to(self.dtype), block["qkv.weight"], block["qkv.bias"])
            q, k, v = qkv.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend).transpose(1, 2).flatten(2)
            mixed = F.linear(mixed, block["out.weight"], block["out.bias"])
            x = self._norm(x + mixed, f"encoder.layer.{i}.attention.output")
            up = F.gelu(F.linear(x.to(self.dtype), block["up.weight"], block["up.bias"]))
            x = self._norm(x + F.linear(up, block["down.weight"], block["down.bias"]), f"encoder.layer.{i}.output")
        return x
