"""A short sweep of sizes and lengths through the ordinary pretraining: the points that a scaling law is fitted to.

Each run is one of ``launch.pretrain``: it is reused when it was made before, continued when it was interrupted, and
published as ``<train.name>-plan-<width>x<steps>-base`` like any other. The sizes are the configured model made narrower
and flatter in proportion; the lengths are steps, and every run ends its own schedule (a loss in the middle of a longer
run's schedule is too high, Hoffmann et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.errors import TrainingError, UsageError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.launch import TrainingWorkers, pretrain
from train_jobs.models.shape import Shape
from train_jobs.planning.flops import flops_per_token
from train_jobs.planning.scaling import Point
from train_jobs.planning.sizes import Sizes

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the configured width
STEPS = (30, 60, 120)
LARGER = 1.5  # width of the checking run in units of the widest of the sweep: about three times the parameters


@dataclass(frozen=True)
class SweptRun:
    """One run: its point, the checkpoint it left, its width, and FLOPs of a token of its model."""

    point: Point
    checkpoint: str
    width: int
    steps: int
    flops_per_token: float

    @property
    def flops_per_s(self) -> float:
        """Of all workers together, as measured; 0 where its seconds are not known."""
        return self.point.tokens * self.flops_per_token / self.point.seconds if self.point.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For the plan's JSON."""
        return {**vars(self.point), "checkpoint": self.checkpoint, "width": self.width, "steps": self.steps}


def scaled(section: TrainSection, width: int, steps: int) -> TrainSection:
    """The configured model at about another width: heads as wide as before, fewer layers in proportion."""
    head = section.hidden // section.heads
    group = max(1, section.heads // section.kv_heads)
    heads = max(1, round(width / head))
    heads = heads if heads < group else group * round(heads / group)
    share = heads * head / section.hidden
    return section.model_copy(
        update={
            "hidden": heads * head, "heads": heads, "kv_heads": max(1, heads // group),
            "mlp": max(32, 16 * round(section.mlp * share / 16)), "layers": max(1, round(section.layers * share)),
            "steps": steps, "name": f"{section.name}-plan-{heads * head}x{steps}",
        }
    )  # fmt: skip


def widths_of(section: TrainSection, wanted: Sequence[int] = ()) -> list[int]:
    """Different widths that the model can be made in, near those wanted (by default ``SHARES`` of its own).

    Raises:
        UsageError: a width below that of one head.
    """
    head = section.hidden // section.heads
    if wrong := [width for width in wanted if width < head]:
        raise UsageError(f"--widths {wrong[0]}: one attention head alone is {head} wide (train.hidden / train.heads)")
    targets = wanted or [max(head, round(share * section.hidden)) for share in SHARES]
    return sorted({scaled(section, width, 1).hidden for width in targets})


def sweep(
    config: PlinthConfig, store: Store, dataset: Manifest, tokenizer: Manifest, widths: Sequence[int],
    lengths: Sequence[int], progress: Progress, workers: TrainingWorkers,
) -> Iterator[SweptRun]:  # fmt: skip
    """Train every width for every number of steps, small ones first; one run at a time, each yielded when it is done.

    Raises:
        TrainingError: a run left no loss; else as ``launch.pretrain``.
    """
    vocab = int(tokenizer.counts["tokens"])
    for width in widths:
        for steps in lengths:
            section = scaled(config.train, width, steps)
            made = pretrain(
                config.model_copy(update={"train": section}), store, dataset, tokenizer, progress, workers=workers
            )
            sizes = Sizes.of(Shape.of(section, vocab))
            counts = made.counts
            if counts.get("held_out_loss") is None:
                raise TrainingError(f"{made.name}@{made.version} has no held-out loss: nothing to fit")
            point = Point(sizes.parameters, int(counts["tokens"]), float(counts["held_out_loss"]), counts["seconds"])
            flops = flops_per_token(sizes, section.context_tokens)
            yield SweptRun(point, f"{made.name}@{made.version}", section.hidden, steps, flops)
