"""Two small towers with a common space: images through a convolutional network, texts through a projection.

The text tower is the embedder, locked (Zhai et al. 2022): a thousand captions teach no language, and its vectors know
what words have in common. They are computed once, before training.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from train_jobs.models.encoders import TowersSpec

FIRST_SCALE = math.log(1 / 0.07)  # as CLIP's
MOST_SCALE = math.log(100.0)


class Towers(nn.Module):
    """``forward(images uint8 [n, 3, P, P], texts [m, text])`` gives vectors of length 1, the images' first,
    [n + m, dim]. ``scale`` is the logarithm of what cosines are multiplied by."""

    def __init__(self, spec: TowersSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, width, size = 3, spec.width, spec.pixels
        while size > 4:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.GroupNorm(4, width), nn.GELU()]
            channels, width, size = width, min(4 * spec.width, 2 * width), -(-size // 2)
        layers += [nn.Flatten(), nn.Linear(channels * size * size, spec.dim)]
        self.image = nn.Sequential(*layers)
        self.text = nn.Sequential(nn.Linear(spec.text, spec.dim), nn.GELU(), nn.Linear(spec.dim, spec.dim))
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """As the class says."""
        seen = self.image(images.to(self.scale.dtype) / 127.5 - 1)
        return F.normalize(torch.cat([seen, self.text(texts)]).float(), dim=-1)
