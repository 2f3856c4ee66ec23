"""How many replicas a deployment has, fixed or between two numbers, and when it gets more or fewer."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from cluster.core.sections.base import Section


class Replicas(Section):
    """Replicas of a deployment: a fixed number where ``min`` and ``max`` are the same, else as many as its load needs.

    Written as one number, both are that.
    """

    min: int = Field(1, ge=1)
    """Replicas that are always there."""
    max: int = Field(1, ge=1)
    """Most replicas under load; the same as min: no more and no fewer."""
    target: float = Field(8.0, gt=0)
    """Requests under way in one replica that scaling aims at."""

    @property
    def fixed(self) -> int:
        """How many there are at all times; 0 where that follows the load."""
        return self.max if self.min == self.max else 0

    @model_validator(mode="before")
    @classmethod
    def _from_one_number(cls, values: Any) -> Any:
        if isinstance(values, int) and not isinstance(values, bool):
            return {"min": values, "max": values}
        if not isinstance(values, dict | Replicas):
            raise ValueError("write a number, or min and max")
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max={self.max} is below min={self.min}")
        return self


class GatewayReplicas(Replicas):
    """Of the gateway, which spends its time waiting for the others."""

    target: float = Field(32.0, gt=0)
    """Requests under way in one gateway that scaling aims at."""


class RetrieverReplicas(Replicas):
    """Of the retriever, which embeds one text after the other."""

    target: float = Field(8.0, gt=0)
    """Texts under way in one retriever that scaling aims at: a search is one text, embeddings are as many as asked
    for."""


class ScalingSection(Section):
    """When deployments whose min and max differ get more or fewer replicas."""

    wait_s: float = Field(0.5, gt=0)
    """Work that waits longer than this in a replica until it is begun asks for more replicas, whatever is under way."""
    up_after_s: float = Field(1.0, ge=0)
    """How long a higher need has to last before replicas are added."""
    down_after_s: float = Field(30.0, gt=0)
    """How long a lower need has to last before replicas are taken away; by itself longer where they had to come
    back."""
    zero_after_s: float = Field(300.0, gt=0)
    """A tier with min_replicas=0 gives up its last replica after so long without any work."""
