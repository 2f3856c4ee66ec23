"""A change of question vectors that can be learnt; ``data_jobs.retrieval.question_map`` computes the same in search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from train_jobs.models.encoders import QuestionMapSpec


class QuestionMapNetwork(nn.Module):
    """``forward(vectors [n, dim])`` gives vectors of length 1, [n, dim]; at first those that went in."""

    def __init__(self, spec: QuestionMapSpec) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(spec.rank, spec.dim) / spec.dim**0.5)
        self.up = nn.Parameter(torch.zeros(spec.dim, spec.rank))

    def forward(self, vectors: Tensor) -> Tensor:
        """As the class says."""
        vectors = vectors.to(self.down.dtype)
        return F.normalize((vectors + vectors @ self.down.T @ self.up.T).float(), dim=-1)
