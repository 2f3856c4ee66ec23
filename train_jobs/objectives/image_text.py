"""Contrastive image-text learning (CLIP, Radford et al. 2021): images and captions of a step find each other, both
ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from train_jobs.data.batches import Arrays, Ids
from train_jobs.data.texts import Epochs, part
from train_jobs.distributed.ranks import Ranks
from train_jobs.models.towers import MOST_SCALE
from train_jobs.objectives.causal_lm import device_of, read_arrays
from train_jobs.objectives.contrastive import as_share, gathered, refuse_passes

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.objectives.protocol import Batches, Objective
    from train_jobs.trainer.plan import RunPlan


@dataclass(frozen=True)
class CaptionedBatch:
    """One worker's images [n, 3, P, P] and vectors of their captions [n, text], which of the step's they are, and how
    many the step has (``total``); ``tokens`` counts the same."""

    images: Tensor
    texts: Tensor
    places: Tensor
    total: int
    ranks: Ranks

    @property
    def tokens(self) -> int:
        """As ``Batch``."""
        return self.total


class Captioned:
    """Steps of captioned images. Shifted images teach more than the same again: while training each is moved by up to
    an eighth of its width, by numbers that follow from the step."""

    def __init__(self, arrays: Arrays, size: int, seed: int, ranks: Ranks) -> None:
        self.images, self.texts, self.seed, self.ranks = arrays["images"], arrays["texts"], seed, ranks
        self.epochs = Epochs(len(self.images), size, seed)
        self.steps_per_epoch = self.epochs.steps_per_epoch

    def batch(self, step: int, rank: int = 0, world: int = 1) -> CaptionedBatch:
        """As ``Batches``."""
        rows = self.epochs.chosen(step)
        moves = np.random.default_rng([self.seed, 1, step]).integers(-1, 2, (len(rows), 2))
        images = [self._moved(self.images[row], move) for row, move in zip(rows, moves, strict=True)]
        return self._batch(np.stack(images), rows, rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[CaptionedBatch]:
        """As ``Batches``: everything as one batch, so that every image meets every caption."""
        rows = np.arange(len(self.images))
        return [self._batch(self.images, rows, rank, world)]

    def _moved(self, image: Ids, move: Ids) -> Ids:
        step = image.shape[1] // 8
        return np.roll(image, (int(move[0]) * step, int(move[1]) * step), axis=(1, 2))

    def _batch(self, images: Ids, rows: Ids, rank: int, world: int) -> CaptionedBatch:
        places = np.arange(len(rows))[rank::world]
        return CaptionedBatch(
            torch.from_numpy(images[places].copy()), torch.from_numpy(self.texts[rows[places]]),
            torch.from_numpy(places), len(rows), self.ranks,
        )  # fmt: skip


class ImageText:
    """``image_text``; the network gives vectors of images and of captions, and learns the scale of their cosines."""

    def load_data(self, plan: RunPlan, store: Store, ranks: Ranks) -> tuple[Batches, Sequence[CaptionedBatch]]:
        """As ``Objective``."""
        refuse_passes(plan)
        arrays = read_arrays(plan, store)
        train, held_out = (
            Captioned(part(arrays, side), int(plan.options["pairs"]), plan.seed, ranks)
            for side in ("train", "held_out")
        )
        return train, held_out.in_order(ranks.rank, ranks.size)

    def build(self, plan: RunPlan, device: str = "cpu") -> nn.Module:
        """As ``Objective``."""
        return plan.model.build(plan.seed, device)

    def share_of_loss(self, network: nn.Module, batch: CaptionedBatch) -> Tensor:
        """As ``Objective``."""
        images, texts = self._vectors(network, batch)
        scale = scale_of(network)
        # Every worker computes the whole loss: of what its own vectors do not reach, a share is this worker's.
        scale = scale / batch.ranks.size + scale.detach() * (1 - 1 / batch.ranks.size)
        return as_share(clip_loss(images, texts, scale.clamp(max=MOST_SCALE).exp()), batch.ranks)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Sequence[CaptionedBatch]) -> dict[str, tuple[float, float]]:
        """As ``Objective``: the loss, and how often an image finds its caption among the first ten of all."""
        sums = {"held_out_loss": (0.0, 0.0), "held_out_recall_at_10": (0.0, 0.0)}
        for batch in batches:
            images, texts = self._vectors(network, batch)
            loss = float(clip_loss(images, texts, scale_of(network).clamp(max=MOST_SCALE).exp()))
            own = batch.places.to(images.device)
            scores = images[own] @ texts.T
            better = (scores > scores.gather(1, own[:, None])).sum(dim=1)
            sums = {"held_out_loss": (loss * len(own), len(own)),
                    "held_out_recall_at_10": (float((better < 10).sum()), len(own))}  # fmt: skip
        return sums

    def _vectors(self, network: nn.Module, batch: CaptionedBatch) -> tuple[Tensor, Tensor]:
        device, count = device_of(network), len(batch.places)
        vectors = network(batch.images.to(device), batch.texts.to(device))
        both = (vectors[:count], vectors[count:])
        images, texts = (gathered(one, batch.places, batch.total, batch.ranks) for one in both)
        return images, texts


def scale_of(network: nn.Module) -> Tensor:
    """The network's learnt scale, through the wrapper that averages gradients."""
    found: Tensor = getattr(network, "module", network).scale  # type: ignore[assignment]
    return found


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """The mean of both directions' cross-entropy (nats): vectors of length 1 [n, d], line by line."""
    scores = scale * images @ texts.T
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


OBJECTIVES: dict[str, Objective] = {"image_text": ImageText()}
