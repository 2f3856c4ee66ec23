"""A causal language model of transformers behind the signature of ``ModelSpec``: the same weights under the same names.

transformers computes the logits of all positions at once; with a vocabulary of today they are larger than everything
else in memory. Here the decoder runs once, and the model's own head (with whatever it does to its logits) runs over
pieces of the positions, recomputed in the backward pass. Packed rows are told to transformers by their positions.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from cluster.core.errors import UnsupportedError

PIECE_BYTES = 64 << 20  # float32 logits that exist at once
PACKED_PROBE, PACKED_TOLERANCE = 8, 1e-3  # tokens of a document in the probe; how far float32 may be off, relative


class CausalNetwork(PreTrainedModel):
    """Mixed into a model's own class by ``as_network``; ``forward`` is that of ``ModelSpec``."""

    def forward(
        self, ids: Tensor, where: Tensor | None = None, segments: Tensor | None = None, targets: Tensor | None = None
    ) -> Tensor:
        """Float32 logits of ``ids`` [B, T] ([B, T, vocab], or [n, vocab] at the flat positions ``where``), or with
        ``targets`` [n] the sum of their cross-entropies (nats). ``segments`` [B, T] numbers the documents of a row.

        Raises:
            UnsupportedError: ``segments`` of a model whose documents would see each other.
        """
        positions = None
        if segments is not None:
            self._check_packing(ids.device)
            positions = positions_in(segments)
        out = self._decoded(ids, positions)
        hidden = out.last_hidden_state  # [B, T, hidden]
        flat = hidden.reshape(-1, hidden.shape[-1])
        flat = flat if where is None else flat[where]
        if targets is None:
            logits = self._head(flat, out)
            return logits if where is not None else logits.reshape(*ids.shape, -1)
        return summed_cross_entropy(lambda part: self._head(part, out), flat, targets, self.config.vocab_size)

    def _decoded(self, ids: Tensor, positions: Tensor | None) -> Any:
        """The decoder's output for rows; ``positions`` [B, T] restart where a document begins."""
        told = {} if positions is None else {"position_ids": positions}
        return self.get_decoder()(input_ids=ids, use_cache=False, **told)

    def _head(self, hidden: Tensor, out: Any) -> Tensor:
        """Float32 logits [n, vocab] of what the decoder said [n, hidden], by the model's own code after its decoder."""
        decoder = self.get_decoder()
        said = dataclasses.replace(out, last_hidden_state=hidden[None])
        decoder.forward = lambda *_, **__: said
        try:
            ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
            logits: Tensor = super().forward(input_ids=ids, use_cache=False).logits[0].float()
        finally:
            del decoder.forward
        return logits

    def _check_packing(self, device: torch.device) -> None:
        """Once: two documents in one row say what they say alone. Not every model minds its positions."""
        if self.__dict__.get("_packs"):
            return
        name = type(self).__name__
        if "position_ids" not in inspect.signature(self.get_decoder().forward).parameters:
            raise UnsupportedError(f"{name} takes no positions, so documents cannot be packed into its rows")
        training = self.training
        self.eval()
        with torch.no_grad():
            ids = torch.arange(2 * PACKED_PROBE, device=device)[None] % self.config.vocab_size
            rows = ids.reshape(2, PACKED_PROBE)
            segments = torch.arange(2, device=device).repeat_interleave(PACKED_PROBE)[None]
            alone = self._decoded(rows, None).last_hidden_state.float()
            packed = self._decoded(ids, positions_in(segments)).last_hidden_state.float().reshape(alone.shape)
        self.train(training)
        bound = PACKED_TOLERANCE if alone.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") else 0.05
        if float((packed - alone).abs().max()) > bound * max(1.0, float(alone.abs().max())):
            raise UnsupportedError(
                f"documents packed into one row would see each other in {name}: transformers does not keep them apart"
            )
        self.__dict__["_packs"] = True


def as_network(model: PreTrainedModel) -> PreTrainedModel:
    """A model of transformers with the forward of ``ModelSpec``; weights and their names stay.

    Raises:
        UnsupportedError: it is no decoder with a head after it.
    """
    kind = type(model)
    model.__class__ = type(kind.__name__, (CausalNetwork, kind), {"__module__": kind.__module__})
    decoder = model.get_decoder()
    if decoder is model or model.config.is_encoder_decoder:
        raise UnsupportedError(f"{kind.__name__} is no decoder with a head after it: it cannot be trained here")
    return model


def positions_in(segments: Tensor) -> Tensor:
    """Each token's place in its document, [B, T]: it restarts where the number in ``segments`` changes."""
    at = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return at - torch.where(begins, at, 0).cummax(dim=1).values


def summed_cross_entropy(head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, vocab: int) -> Tensor:
    """Sum of cross-entropies (nats, float32) of ``targets`` [n] under ``head(hidden [n, width])``, in pieces of at most
    PIECE_BYTES of logits. More than one piece is computed again in the backward pass instead of kept."""

    def of(part: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(head(part), wanted, reduction="sum")

    rows = max(1, PIECE_BYTES // (4 * vocab))
    if len(hidden) <= rows:
        return of(hidden, targets)
    total = hidden.new_zeros((), dtype=torch.float32)
    for part, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
        again = torch.is_grad_enabled()
        total = total + (checkpoint(of, part, wanted, use_reentrant=False) if again else of(part, wanted))
    return total


def materialise(network: PreTrainedModel, device: str) -> None:
    """Give a network that was built on ``meta`` memory on ``device``: tied weights are one again, and what it holds
    beside its weights (rotary tables) is computed. The weights are still to be filled in."""
    network.to_empty(device=device)
    network.tie_weights()
    for tensor in network.parameters():
        tensor._is_hf_initialized = True  # type: ignore[attr-defined]
    for module in network.modules():
        module._is_hf_initialized = False  # type: ignore[assignment]
    network.initialize_weights()
    for tensor in network.parameters():
        del tensor._is_hf_initialized  # type: ignore[attr-defined]


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The transformer layers: the longest list of modules that lies in no other list (experts lie in layers)."""
    lists = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [m for name, m in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    return max((list(layers) for layers in outer), key=len) if outer else []
