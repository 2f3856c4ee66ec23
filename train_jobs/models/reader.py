"""The reader as a network that can be trained: a BERT encoder that sees question and text together, with two heads.

``data_jobs.retrieval.reading`` computes the same where nothing is learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.models.bert import Bert

if TYPE_CHECKING:
    from train_jobs.models.encoders import EncoderSpec


class ReaderNetwork(Bert):
    """Whether the text answers the question, from the state of [CLS], and where the answer begins and ends.

    ``forward(ids [B, T], mask, types)``: as ``Bert``; ``types`` int64 [B, T] as ``data_jobs.retrieval.reading`` makes
    them. Gives float32 logits: [B], and [B, T, 2] for the first and the last token of the answer.
    """

    def __init__(self, spec: EncoderSpec, seed: int = 0) -> None:
        super().__init__(spec, seed)
        size = int(spec.settings["hidden_size"])
        self.answerable = nn.ModuleDict({"dense": nn.Linear(size, size), "out": nn.Linear(size, 1)})
        self.span = nn.Linear(size, 2)
        self._initialise(float(spec.settings.get("initializer_range", 0.02)), seed)

    def forward(  # type: ignore[override]
        self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the class says."""
        hidden = self.hidden(ids, mask, types)
        first = F.gelu(self.answerable["dense"](hidden[:, 0]))
        return self.answerable["out"](first).squeeze(-1).float(), self.span(hidden).float()
